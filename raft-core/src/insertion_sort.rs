//! Insertion sort, for the short lists of this crate: members, voters and ranks, at most 64 of
//! each.
//!
//! The standard sort is made for long lists, and each type that it is compiled for takes up to 5
//! KiB of a microcontroller's flash.

/// Sorts by this key. Items with equal keys keep their order.
pub(crate) fn insertion_sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
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
    fn a_short_list_is_sorted_and_equals_keep_their_order() {
        let mut items = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd'), (1, 'e')];
        insertion_sort_by_key(&mut items, |(number, _)| *number);
        assert_eq!(items, [(1, 'b'), (1, 'e'), (2, 'd'), (3, 'a'), (3, 'c')]);
        insertion_sort_by_key(&mut [0u8; 0], |number| *number);
    }
}
