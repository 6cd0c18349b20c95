//! What the errors of rustls mean to an operator.
#![expect(clippy::wildcard_enum_match_arm, reason = "most errors speak for themselves")]

use std::format;
use std::io;
use std::string::{String, ToString};

use rustls::{AlertDescription, CertificateError, Error};

/// The reason if the error comes from rustls.
pub(in crate::host) fn reason(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<Error>().map(peers)
}

/// What to say of a connection that ended with this error.
fn peers(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "the other side shows no certificate: give it one from this cluster's authority".into()
        }
        Error::InvalidCertificate(error) => {
            format!("the other side's certificate is refused: {}", certificate(error))
        }
        Error::InvalidMessage(error) => format!(
            "the other side does not speak TLS as it should ({error:?}): switch TLS on at all nodes, \
             and check which program uses this address"
        ),
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::PeerIncompatible(error) => {
            format!(
                "the two sides have no version or cipher of TLS in common, TLS 1.3 is needed: {error:?}"
            )
        }
        Error::DecryptError => "what arrived was changed on its way, or is no TLS".into(),
        error => error.to_string(),
    }
}

/// What to say of credentials that rustls does not take.
pub(super) fn own(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::InconsistentKeys(_) => {
            "the key is not the certificate's: give the two that were made together".into()
        }
        Error::NoCertificatesPresented => "there is no certificate".into(),
        error => error.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        // The second is an authority of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no known authority has signed it: have it signed by the cluster's, or add its authority \
             on both sides"
                .into()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{error}: renew it, or correct the clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{error}: correct the clock")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("{error}: a node's certificate is for servers and for clients")
        }
        CertificateError::Other(error) => error.0.to_string(),
        error => error.to_string(),
    }
}

fn alert_received(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::BadCertificate
        | Alert::CertificateRequired
        | Alert::CertificateExpired
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::UnknownCA
        | Alert::AccessDenied => {
            format!("the other side refuses this node's certificate ({alert:?}): its log says why")
        }
        alert => format!("the other side ends TLS ({alert:?}): its log says why"),
    }
}
