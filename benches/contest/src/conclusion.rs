//! What a contest comes to, in two sentences made of its figures.

use crate::contestants::{ALL, Contestant, Timing};
use crate::faults::Fault;
use crate::results::{Results, median};
use crate::tables::{client_counts, fault_title, gaps, thousands, turns};

/// Two sentences, or what the figures have of them.
pub(crate) fn of(results: &Results) -> String {
    [load(results), faults(results)].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The most writes a second, from the fewest clients to the most, and ours beside.
fn load(results: &Results) -> Option<String> {
    let mut best = Named::default();
    let mut ours = Vec::new();
    for clients in client_counts(results) {
        let cell = clients.to_string();
        let value = |one: Contestant| results.median(["load", one.id, &cell], "writes_s");
        let Some((first, most)) = pick(value, |a, b| a > b) else { continue };
        best.add(first, format!("{} with {clients}", thousands(most)));
        ours.push(value(ALL[0]).map_or_else(|| "-".into(), thousands));
    }
    (!ours.is_empty()).then(|| {
        format!(
            "Most writes a second by the number of clients, each write on the disks of two of three \
             ({}): {}; beside them {}: {}.",
            turns(results),
            best.text(),
            ALL[0].name,
            ours.join(", ")
        )
    })
}

/// The shortest gap of each fault, with default timeouts.
fn faults(results: &Results) -> Option<String> {
    let mut best = Named::default();
    for fault in Fault::ALL {
        let of = |one: Contestant| gaps(results, one.id, fault, Timing::Default);
        let Some((first, gap)) = pick(|one| median(&of(one)), |a, b| a < b) else { continue };
        let longest = of(first).last().copied().unwrap_or_default();
        let trials = of(first).len();
        best.add(
            first,
            format!(
                "{} {gap:.0} ms (at most {} in {trials} trials)",
                fault_title(fault),
                thousands(longest)
            ),
        );
    }
    (!best.0.is_empty()).then(|| {
        format!(
            "When the leader fails and each has its own timeouts, clients wait least, by the median, \
             with {}.",
            best.text()
        )
    })
}

/// What is said of each contestant, in the order in which they were named first.
#[derive(Default)]
struct Named(Vec<(Contestant, Vec<String>)>);

impl Named {
    fn add(&mut self, contestant: Contestant, text: String) {
        match self.0.iter_mut().find(|(known, _)| *known == contestant) {
            Some((_, texts)) => texts.push(text),
            None => self.0.push((contestant, vec![text])),
        }
    }

    fn text(&self) -> String {
        let named = self.0.iter();
        let named = named.map(|(one, texts)| format!("{}: {}", one.name, texts.join(", ")));
        named.collect::<Vec<_>>().join("; ")
    }
}

/// The best of those that promise what the others do, and its figure.
fn pick(
    value: impl Fn(Contestant) -> Option<f64>,
    is_better: fn(f64, f64) -> bool,
) -> Option<(Contestant, f64)> {
    let able = ALL.into_iter().filter(|contestant| !contestant.is_reference);
    let values = able.filter_map(|contestant| Some((contestant, value(contestant)?)));
    values.reduce(|best, next| if is_better(next.1, best.1) { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_best_with_its_spread_and_ours_beside() {
        let folder = tempfile::tempdir().unwrap();
        let mut results = Results::read(&folder.path().join("none"), String::new()).unwrap();
        for (id, writes) in [("ours-tokio", 12438), ("openraft", 14858), ("nats", 99_999)] {
            results.add(["load", id, "16"], 0, "writes_s", writes);
        }
        for (trial, gap) in [11, 12, 1665].into_iter().enumerate() {
            results.add(["fault", "ours-tokio", "sigkill default"], trial, "gap_ms", gap);
        }
        results.add(["fault", "etcd", "sigkill default"], 0, "gap_ms", 1180);
        let said = of(&results);
        let most = "openraft: 14,858 with 16; beside them ours, tokio: 12,438.";
        assert!(said.contains(most), "{said}");
        let waited = "with ours, tokio: SIGKILL 12 ms (at most 1,665 in 3 trials).";
        assert!(said.contains(waited), "{said}");
        assert!(!said.contains("99,999"), "{said}");
        assert_eq!(of(&Results::default()), "");
    }
}
