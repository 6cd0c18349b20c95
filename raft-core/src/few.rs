//! Sorting few things: members, voters, ranks; 64 at most.
//!
//! The standard library's sort is made for many, and instantiated for each type takes up to 5 KiB of a microcontroller's flash.

/// Sorts by insertion; equal ones keep their order.
pub(crate) fn sort_few_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..=items.len() {
        let Some(mut unsorted) = items.get_mut(..end) else { return };
        while let [before @ .., item] = unsorted {
            match before.last_mut() {
                Some(last) if key(last) > key(item) => core::mem::swap(last, item),
                Some(_) | None => break,
            }
            unsorted = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_things_are_sorted() {
        let mut items = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd'), (1, 'e')];
        sort_few_by_key(&mut items, |(number, _)| *number);
        assert_eq!(items, [(1, 'b'), (1, 'e'), (2, 'd'), (3, 'a'), (3, 'c')]);
        sort_few_by_key(&mut [0u8; 0], |number| *number);
    }
}
