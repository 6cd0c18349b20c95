//! The whole state of a server as bytes (feature `std`), so that a run can be replayed from the
//! middle.
//!
//! Equal states have equal bytes, and what is read back is equal to what was written. Each type
//! lists its fields beside its definition with `stored!`, which takes the type apart without `..`:
//! a new field does not compile until it is listed.
//!
//! The bytes mean something only to the version that wrote them. They hold no lengths of structures
//! and no numbers of fields, because a state of another version cannot go on here anyway.
//!
//! ```text
//! number       LEB128, the low seven bits first
//! sequence     how many, then each
//! option       0 | 1 and the value
//! variant      its number, then its fields
//! ```

#[cfg(feature = "std")]
pub(crate) use forms::{Damaged, In, Out, Stored};

/// Lists what a type consists of. Without the feature `std` this is nothing.
macro_rules! stored {
    (struct $name:ident $(<$($of:ident),+>)? { $($field:ident),* $(,)? }) => {
        #[cfg(feature = "std")]
        impl $(<$($of: $crate::checkpoint::Stored),+>)? $crate::checkpoint::Stored
            for $name $(<$($of),+>)?
        {
            fn put(&self, out: &mut $crate::checkpoint::Out<'_>) {
                let Self { $($field),* } = self;
                $($crate::checkpoint::Stored::put($field, out);)*
            }

            fn take(
                from: &mut $crate::checkpoint::In<'_>,
            ) -> Result<Self, $crate::checkpoint::Damaged> {
                $(let $field = $crate::checkpoint::Stored::take(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    };
    (struct $name:ident (_)) => {
        #[cfg(feature = "std")]
        impl $crate::checkpoint::Stored for $name {
            fn put(&self, out: &mut $crate::checkpoint::Out<'_>) {
                let Self(inner) = self;
                $crate::checkpoint::Stored::put(inner, out);
            }

            fn take(
                from: &mut $crate::checkpoint::In<'_>,
            ) -> Result<Self, $crate::checkpoint::Damaged> {
                Ok(Self($crate::checkpoint::Stored::take(from)?))
            }
        }
    };
    (enum $name:ident $(<$($of:ident),+>)? {
        $($tag:literal $variant:ident { $($field:tt: $bind:ident),* },)*
    }) => {
        #[cfg(feature = "std")]
        impl $(<$($of: $crate::checkpoint::Stored),+>)? $crate::checkpoint::Stored
            for $name $(<$($of),+>)?
        {
            fn put(&self, out: &mut $crate::checkpoint::Out<'_>) {
                match self {
                    $(Self::$variant { $($field: $bind),* } => {
                        out.byte($tag);
                        $($crate::checkpoint::Stored::put($bind, out);)*
                    })*
                }
            }

            fn take(
                from: &mut $crate::checkpoint::In<'_>,
            ) -> Result<Self, $crate::checkpoint::Damaged> {
                Ok(match from.byte()? {
                    $($tag => {
                        $(let $bind = $crate::checkpoint::Stored::take(from)?;)*
                        Self::$variant { $($field: $bind),* }
                    })*
                    _ => return Err(from.damaged()),
                })
            }
        }
    };
}
pub(crate) use stored;

#[cfg(feature = "std")]
mod forms {
    use alloc::boxed::Box;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use core::num::NonZeroU32;
    use core::time::Duration;

    /// What can be written and read back.
    pub(crate) trait Stored: Sized {
        /// Appends the value.
        fn put(&self, out: &mut Out<'_>);

        /// Reads the value.
        fn take(from: &mut In<'_>) -> Result<Self, Damaged>;
    }

    /// What state is written to.
    pub(crate) struct Out<'o> {
        pub(crate) bytes: &'o mut Vec<u8>,
        /// Whether the contents of commands are written beside their lengths and digests.
        pub(crate) contents: bool,
        /// Whether the log's entries are written. Without them the bytes are few, and say whether
        /// two states are equal but for the log's middle.
        pub(crate) entries: bool,
    }

    /// What state is read from.
    pub(crate) struct In<'b> {
        bytes: &'b [u8],
        at: usize,
        /// Whether commands have contents.
        pub(crate) contents: bool,
    }

    /// The bytes are not those of a state of this version.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Damaged {
        /// Where the first wrong byte lies.
        pub(crate) offset: usize,
    }

    impl Out<'_> {
        pub(crate) fn byte(&mut self, byte: u8) {
            self.bytes.push(byte);
        }

        pub(crate) fn number(&mut self, mut number: u64) {
            while number >= 0x80 {
                self.bytes.push((number & 0x7f) as u8 | 0x80);
                number >>= 7;
            }
            self.bytes.push(number as u8);
        }
    }

    impl<'b> In<'b> {
        pub(crate) fn new(bytes: &'b [u8], contents: bool) -> Self {
            Self { bytes, at: 0, contents }
        }

        /// How much was read, in bytes.
        pub(crate) fn offset(&self) -> usize {
            self.at
        }

        pub(crate) fn damaged(&self) -> Damaged {
            Damaged { offset: self.at }
        }

        pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
            let byte = *self.bytes.get(self.at).ok_or(self.damaged())?;
            self.at = self.at.saturating_add(1);
            Ok(byte)
        }

        pub(crate) fn slice(&mut self, length: usize) -> Result<&'b [u8], Damaged> {
            let end = self.at.saturating_add(length);
            let slice = self.bytes.get(self.at..end).ok_or(self.damaged())?;
            self.at = end;
            Ok(slice)
        }

        pub(crate) fn number(&mut self) -> Result<u64, Damaged> {
            let (mut number, mut shift) = (0u64, 0u32);
            loop {
                let byte = self.byte()?;
                let bits = u64::from(byte & 0x7f);
                number |= bits.checked_shl(shift).ok_or(self.damaged())?;
                if byte < 0x80 {
                    return Ok(number);
                }
                shift = shift.saturating_add(7);
            }
        }

        /// How many values follow: no more than there are bytes left, because each takes one.
        fn count(&mut self) -> Result<usize, Damaged> {
            let count = usize::take(self)?;
            if count > self.bytes.len().saturating_sub(self.at) {
                return Err(self.damaged());
            }
            Ok(count)
        }
    }

    macro_rules! numbers {
        ($($number:ty)*) => {$(
            impl Stored for $number {
                fn put(&self, out: &mut Out<'_>) {
                    out.number(*self as u64);
                }

                fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
                    <$number>::try_from(from.number()?).map_err(|_| from.damaged())
                }
            }
        )*};
    }

    numbers! { u8 u32 u64 usize }

    impl Stored for u128 {
        fn put(&self, out: &mut Out<'_>) {
            out.bytes.extend_from_slice(&self.to_le_bytes());
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            let bytes = from.slice(16)?.try_into().map_err(|_| from.damaged())?;
            Ok(Self::from_le_bytes(bytes))
        }
    }

    impl Stored for bool {
        fn put(&self, out: &mut Out<'_>) {
            out.byte(u8::from(*self));
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            match from.byte()? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(from.damaged()),
            }
        }
    }

    impl Stored for NonZeroU32 {
        fn put(&self, out: &mut Out<'_>) {
            self.get().put(out);
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            Self::new(u32::take(from)?).ok_or(from.damaged())
        }
    }

    impl Stored for Duration {
        fn put(&self, out: &mut Out<'_>) {
            self.as_secs().put(out);
            self.subsec_nanos().put(out);
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            let (seconds, nanos) = (u64::take(from)?, u32::take(from)?);
            if nanos >= 1_000_000_000 {
                return Err(from.damaged());
            }
            Ok(Self::new(seconds, nanos))
        }
    }

    impl<T: Stored> Stored for Option<T> {
        fn put(&self, out: &mut Out<'_>) {
            out.byte(u8::from(self.is_some()));
            if let Some(value) = self {
                value.put(out);
            }
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            Ok(if bool::take(from)? { Some(T::take(from)?) } else { None })
        }
    }

    impl<T: Stored> Stored for Box<T> {
        fn put(&self, out: &mut Out<'_>) {
            T::put(self, out);
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            T::take(from).map(Self::new)
        }
    }

    impl<T: Stored> Stored for Vec<T> {
        fn put(&self, out: &mut Out<'_>) {
            self.len().put(out);
            self.iter().for_each(|value| value.put(out));
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            let count = from.count()?;
            (0..count).map(|_| T::take(from)).collect()
        }
    }

    impl<T: Stored> Stored for VecDeque<T> {
        fn put(&self, out: &mut Out<'_>) {
            self.len().put(out);
            self.iter().for_each(|value| value.put(out));
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            let count = from.count()?;
            (0..count).map(|_| T::take(from)).collect()
        }
    }

    impl<A: Stored, B: Stored> Stored for (A, B) {
        fn put(&self, out: &mut Out<'_>) {
            self.0.put(out);
            self.1.put(out);
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            Ok((A::take(from)?, B::take(from)?))
        }
    }

    impl<A: Stored, B: Stored, C: Stored> Stored for (A, B, C) {
        fn put(&self, out: &mut Out<'_>) {
            self.0.put(out);
            self.1.put(out);
            self.2.put(out);
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            Ok((A::take(from)?, B::take(from)?, C::take(from)?))
        }
    }

    impl<T: Stored> Stored for [T; 2] {
        fn put(&self, out: &mut Out<'_>) {
            self.iter().for_each(|value| value.put(out));
        }

        fn take(from: &mut In<'_>) -> Result<Self, Damaged> {
            Ok([T::take(from)?, T::take(from)?])
        }
    }
}
