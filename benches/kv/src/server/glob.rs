//! The patterns of SCAN and KEYS, over bytes, as Redis has them: `*`, `?`, `[a-z]`, `[^a-z]`, and
//! `\` before a byte that means itself. The crates for patterns are made for paths or for text, and
//! each leaves out a part of this.
//!
//! A match takes at most as many steps as the product of both lengths, because only the last `*` is
//! tried again: what an earlier one could take instead, the last one can, too. So a pattern is
//! bounded.

/// The most bytes of a pattern.
pub const PATTERN_BYTES_MAX: usize = 256;

/// Whether the whole text is of this pattern.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // What follows the last `*`, and the text of which it takes one byte more at each try.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
            continue;
        }
        match (text.split_first(), one(pattern, text.first().copied())) {
            (None, _) if pattern.is_empty() => return true,
            (Some((_, after)), Some(rest)) => (pattern, text) = (rest, after),
            _ => {
                let Some((after_star, [_, taken @ ..])) = retry else { return false };
                retry = Some((after_star, taken));
                (pattern, text) = (after_star, taken);
            }
        }
    }
}

/// The pattern after its first element, if that matches the byte. The first element is no `*`.
fn one(pattern: &[u8], byte: Option<u8>) -> Option<&[u8]> {
    let byte = byte?;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => class(rest, byte),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// The pattern after the `]` of a class, if the byte is of the class. A class without an end ends
/// with the pattern.
fn class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_negated, mut class) = match class {
        [b'^', rest @ ..] => (true, rest),
        _ => (false, class),
    };
    let mut is_in = false;
    let rest = loop {
        class = match class {
            [] => break class,
            [b']', rest @ ..] => break rest,
            [b'\\', literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
            [from, b'-', to, rest @ ..] if *to != b']' => {
                is_in |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
        }
    };
    (is_in != is_negated).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "anything", true),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hello!", false),
            ("*a*b", "xaab", true),
            ("*a*b", "xaaba", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("h[a-b]llo", "hcllo", false),
            ("[a-]", "-", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "\\", true),
            ("[ab", "b", true),
            ("[", "[", false),
            ("user:*", "user:1000", true),
            ("a/*", "a/b/c", true),
        ] {
            let matched = matches(pattern.as_bytes(), text.as_bytes());
            assert_eq!(matched, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(PATTERN_BYTES_MAX / 2);
        assert!(!matches(format!("{pattern}b").as_bytes(), &[b'a'; 10_000]));
    }

    /// The rule as one would write it down, in exponential time.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', rest @ ..] => (0..=text.len()).any(|taken| slow(rest, &text[taken..])),
            _ => one(pattern, text.first().copied()).is_some_and(|rest| slow(rest, &text[1..])),
        }
    }

    proptest! {
        #[test]
        fn only_the_last_star_need_be_tried_again(
            pattern in "[*?ab\\[\\]^\\\\-]{0,10}", text in "[ab\\]-]{0,10}",
        ) {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), slow(pattern, text));
        }
    }
}
