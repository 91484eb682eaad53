//! Declares wire structures as tables of offset and field, so that a layout is written once and
//! reads like the specification's; overlaps and overruns do not compile.

/// A value with a fixed little-endian image of `LEN` bytes.
pub(crate) trait Field: Sized {
    /// Bytes on the wire.
    const LEN: usize;
    /// Reads the value from the first `LEN` bytes of `bytes`.
    fn get(bytes: &[u8]) -> Self;
    /// Writes the value to the first `LEN` bytes of `out`.
    fn put(&self, out: &mut [u8]);
}

macro_rules! integer_field {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const LEN: usize = size_of::<$ty>();
            fn get(bytes: &[u8]) -> Self {
                let mut image = [0; size_of::<$ty>()];
                image.copy_from_slice(&bytes[..size_of::<$ty>()]);
                <$ty>::from_le_bytes(image)
            }
            fn put(&self, out: &mut [u8]) {
                out[..size_of::<$ty>()].copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
integer_field!(u8, u16, u32, u64, u128);

impl<T: Field + Copy, const N: usize> Field for [T; N] {
    const LEN: usize = N * T::LEN;
    fn get(bytes: &[u8]) -> Self {
        core::array::from_fn(|i| T::get(&bytes[i * T::LEN..]))
    }
    fn put(&self, out: &mut [u8]) {
        for (i, item) in self.iter().enumerate() {
            item.put(&mut out[i * T::LEN..]);
        }
    }
}

/// Reads a little-endian value at `at`. The caller's buffer is a fixed array that contains it.
pub(crate) fn get<T: Field>(bytes: &[u8], at: usize) -> T {
    T::get(&bytes[at..])
}

/// Writes a little-endian value at `at`. The caller's buffer is a fixed array that contains it.
pub(crate) fn put<T: Field>(out: &mut [u8], at: usize, value: T) {
    value.put(&mut out[at..]);
}

/// Defines a structure of fixed length with `parse` and `encode`; bytes that no row names are
/// reserved: ignored when read, zero when written.
macro_rules! layout {
    ($(#[$meta:meta])* pub struct $name:ident: $len:literal {
        $($(#[$field_meta:meta])* $at:literal => $field:ident: $ty:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $name {
            /// Bytes on the wire.
            pub const LEN: usize = $len;

            /// Reads the structure; reserved bytes are ignored.
            pub fn parse(bytes: &[u8; $len]) -> Self {
                Self { $($field: $crate::layout::get(bytes, $at),)* }
            }

            /// The structure's bytes; reserved ones are zero.
            pub fn encode(&self) -> [u8; $len] {
                let mut out = [0; $len];
                self.encode_into(&mut out);
                out
            }

            /// Writes the structure over `out`; reserved bytes become zero.
            pub fn encode_into(&self, out: &mut [u8; $len]) {
                out.fill(0);
                $($crate::layout::Field::put(&self.$field, &mut out[$at..]);)*
            }
        }

        impl Default for $name {
            /// All fields zero.
            fn default() -> Self {
                Self::parse(&[0; $len])
            }
        }

        impl $crate::layout::Field for $name {
            const LEN: usize = $len;
            fn get(bytes: &[u8]) -> Self {
                let mut image = [0; $len];
                image.copy_from_slice(&bytes[..$len]);
                Self::parse(&image)
            }
            fn put(&self, out: &mut [u8]) {
                out[..$len].copy_from_slice(&self.encode());
            }
        }

        const _: () = {
            let mut _end = 0;
            $(
                assert!($at >= _end, "fields overlap or are out of order");
                _end = $at + <$ty as $crate::layout::Field>::LEN;
            )*
            assert!(_end <= $len, "a field lies beyond the structure");
        };
    };
}

/// Defines a set of flags over an unsigned integer, each flag a constant of the type.
macro_rules! flags {
    ($(#[$meta:meta])* pub struct $name:ident($ty:ty) {
        $($(#[$flag_meta:meta])* $flag:ident = $value:expr,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub $ty);

        impl $name {
            $($(#[$flag_meta])* pub const $flag: Self = Self($value);)*

            /// True if every flag of `other` is set.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Both sets together.
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// This set without the flags of `other`.
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl core::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl $crate::layout::Field for $name {
            const LEN: usize = <$ty as $crate::layout::Field>::LEN;
            fn get(bytes: &[u8]) -> Self {
                Self($crate::layout::Field::get(bytes))
            }
            fn put(&self, out: &mut [u8]) {
                self.0.put(out);
            }
        }
    };
}
