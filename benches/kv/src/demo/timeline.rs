//! What happens, told to people: a line each, with the time since the start.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Prints what happens.
#[derive(Debug)]
pub struct Timeline {
    start: Instant,
    colors: bool,
}

impl Timeline {
    /// Begins now; in color if a terminal shows it.
    pub fn begin() -> Self {
        Self { start: Instant::now(), colors: std::io::stdout().is_terminal() }
    }

    /// How long ago that was.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A line of what happens, under this label.
    pub fn tell(&self, label: &str, text: &str) {
        self.line("1", label, text);
    }

    /// The same of something bad.
    pub fn alarm(&self, label: &str, text: &str) {
        self.line("1;31", label, text);
    }

    /// The same of something good.
    pub fn good(&self, label: &str, text: &str) {
        self.line("1;32", label, text);
    }

    fn line(&self, style: &str, label: &str, text: &str) {
        let elapsed = format!("{:>7.3} s", self.start.elapsed().as_secs_f64());
        let label = format!("{label:<9}");
        let (elapsed, label) = (self.paint("2", &elapsed), self.paint(style, &label));
        progress::print(format_args!("{elapsed}  {label}  {text}"));
    }

    /// The text in this style (the parameters of ANSI's SGR), if a terminal shows it.
    pub fn paint(&self, style: &str, text: &str) -> String {
        if self.colors { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A span in milliseconds, with as many digits as matter.
pub fn ms(span: Duration) -> String {
    let ms = span.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = (digits.len() + 2) % 3 + 1;
    let (first, rest) = digits.split_at(first);
    let rest = rest.as_bytes().chunks(3).map(String::from_utf8_lossy);
    rest.fold(first.to_owned(), |text, group| text + " " + &group)
}

/// So many of these.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(1234), "1 234");
        assert_eq!(grouped(1_234_567), "1 234 567");
        assert_eq!(plural(1, "write"), "1 write");
        assert_eq!(ms(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(ms(Duration::from_micros(123_400)), "123 ms");
    }
}
