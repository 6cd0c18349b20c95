//! Which nodes a certificate names.

use std::format;
use std::string::String;
use std::vec::Vec;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::host::identity::ClusterId;
use crate::types::NodeId;

/// Checks that a certificate, which comes from an authority and is valid, names a node of a
/// cluster. The error says what is missing.
pub(super) type Names =
    dyn Fn(&CertificateDer<'_>, ClusterId, NodeId) -> Result<(), String> + Send + Sync;

/// How many of a certificate's names a message shows.
const SHOWN_MAX: usize = 4;

/// How many characters of such a name it shows.
const SHOWN_CHARS_MAX: usize = 64;

/// The URI that names a node in its certificate, as `raft://7/2` for node 2 of cluster 7.
pub fn name(cluster: ClusterId, node: NodeId) -> String {
    format!("raft://{cluster}/{node}")
}

/// Whether one of the certificate's names, the URIs among the subject's alternative names, is
/// exactly the [`name`] of the node.
///
/// # Errors
///
/// It is not: the text shows the name that is needed, and the first of those that are there.
pub fn names(
    certificate: &CertificateDer<'_>,
    cluster: ClusterId,
    node: NodeId,
) -> Result<(), String> {
    let wanted = name(cluster, node);
    let parsed =
        EndEntityCert::try_from(certificate).map_err(|error| format!("no certificate: {error}"))?;
    if parsed.valid_uri_names().any(|there| there == wanted) {
        return Ok(());
    }
    let shown = |there: &str| there.chars().take(SHOWN_CHARS_MAX).collect::<String>();
    let there: Vec<_> = parsed.valid_uri_names().take(SHOWN_MAX).map(shown).collect();
    let there = if there.is_empty() { "no URI".into() } else { there.join(", ") };
    Err(format!(
        "the certificate names {there}, and must name {wanted}: make one with this URI among its \
         subject's alternative names"
    ))
}
