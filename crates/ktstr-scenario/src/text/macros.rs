//! Macros that give the types of the language their text form: each type lists its variants or fields once. The code does
//! not compile if a variant or a field is missing in the list.

/// Implements the text form of an enum. A variant without a value is written as a word, a variant with a value as
/// `{ word = value }`, and a variant with fields as `{ word = { field = value } }`.
macro_rules! text_enum {
    ($type:ty, $what:literal {
        $( $variant:ident $(($inner:ident))? $({ $($field:ident),+ $(,)? })? ),+ $(,)?
    }) => {
        impl $type {
            const TEXT_VARIANTS: &'static [(&'static str, $crate::text::fields::Shape)] =
                &[$( (stringify!($variant), text_enum!(@shape $($inner)? $($($field)+)?)) ),+];
        }

        impl $crate::text::Text for $type {
            fn expected() -> String {
                $crate::text::fields::choice($what, Self::TEXT_VARIANTS)
            }

            fn put(&self) -> Result<$crate::text::Node, $crate::text::Unsayable> {
                match self {
                    $( Self::$variant $(($inner))? $({ $($field),+ })? => {
                        Ok($crate::text::put_variant(
                            stringify!($variant),
                            text_enum!(@put $(($inner))? $({ $($field),+ })?),
                        ))
                    } )+
                }
            }

            #[allow(unused_variables)]
            fn take(
                node: &$crate::text::Node,
                names: &$crate::text::Names,
            ) -> Result<Self, $crate::text::TextError> {
                let (name, value) = $crate::text::variant(node, $what, Self::TEXT_VARIANTS)?;
                // `variant` has checked that a value is present if the variant needs one. The other variants ignore `value`.
                let value = value.unwrap_or(node);
                match name {
                    $( stringify!($variant) => {
                        text_enum!(@take $variant value names $(($inner))? $({ $($field),+ })?)
                    } )+
                    _ => Err(node.expected(&Self::expected())),
                }
            }
        }
    };
    (@shape) => { $crate::text::fields::Shape::Word };
    (@shape $($some:ident)+) => { $crate::text::fields::Shape::Value };
    (@put) => { None };
    (@put ($inner:ident)) => { Some($crate::text::Text::put($inner)?) };
    (@put { $($field:ident),+ }) => {
        Some($crate::text::Node::table(vec![
            $( (stringify!($field).to_owned(), $crate::text::Text::put($field)?) ),+
        ]))
    };
    (@take $variant:ident $value:ident $names:ident) => { Ok(Self::$variant) };
    (@take $variant:ident $value:ident $names:ident ($inner:ident)) => {
        Ok(Self::$variant($crate::text::Text::take($value, $names)?))
    };
    (@take $variant:ident $value:ident $names:ident { $($field:ident),+ }) => {{
        let fields = $crate::text::Fields::of($value, &[$(stringify!($field)),+], $names)?;
        Ok(Self::$variant { $($field: fields.required(stringify!($field))?),+ })
    }};
}

/// Implements the text form of a struct as a table. If a key is missing, its field gets the value that it has in `$default`.
macro_rules! text_struct {
    ($type:ty, $what:literal, $default:expr, { $($field:ident),+ $(,)? }) => {
        impl $crate::text::Text for $type {
            fn expected() -> String {
                $what.to_owned()
            }

            fn put(&self) -> Result<$crate::text::Node, $crate::text::Unsayable> {
                let Self { $($field),+ } = self;
                Ok($crate::text::Node::table(vec![
                    $( (stringify!($field).to_owned(), $crate::text::Text::put($field)?) ),+
                ]))
            }

            fn take(
                node: &$crate::text::Node,
                names: &$crate::text::Names,
            ) -> Result<Self, $crate::text::TextError> {
                let fields = $crate::text::Fields::of(node, &[$(stringify!($field)),+], names)?;
                let without: Self = $default;
                Ok(Self { $($field: fields.or(stringify!($field), || without.$field)?),+ })
            }
        }
    };
}
