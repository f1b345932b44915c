//! Enums that are serialized as strings and preserve strings that they do not know.
//!
//! A trace may come from a newer version of this crate or of the Go package. Its unknown strings must survive reading
//! and writing.

/// Defines an enum whose variants are strings in JSON.
///
/// An unknown string becomes `Other` and is written back unchanged. Strings after a bar are aliases: they are read as
/// the variant but never written.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $text:literal $(| $alias:literal)* ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )+
            /// A string that this version does not know, as it was read.
            Other($crate::record::BoxedOrEmpty<$crate::record::Text>),
        }

        impl $name {
            /// Returns the string that stands for this variant in JSON.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $text, )+
                    Self::Other(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            /// Converts a string of the JSON. An unknown one becomes `Other`.
            fn from(name: &str) -> Self {
                match name {
                    $( $text $(| $alias)* => Self::$variant, )+
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::record::open_enum::NameVisitor::new(stringify!($name)))
            }
        }
    };
}
pub(super) use open_enum;

/// A serde visitor for types that can be made from any string. Does not copy known strings.
pub(super) struct NameVisitor<T> {
    what: &'static str,
    made: std::marker::PhantomData<T>,
}

impl<T> NameVisitor<T> {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, made: std::marker::PhantomData }
    }
}

impl<T: for<'a> From<&'a str>> serde::de::Visitor<'_> for NameVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the name of a {}", self.what)
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok(T::from(name))
    }
}

#[cfg(test)]
mod tests {
    use crate::record::{DnsRCode, DnsResType, EndReason, SocketOpType, TcpState};

    fn round_trip<T>(read: &str) -> String
    where
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        serde_json::to_value(serde_json::from_value::<T>(read.into()).unwrap())
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn unknown_names_survive_a_round_trip() {
        for name in ["something-new", "Žluť \"\n", " read", "READ"] {
            assert_eq!(round_trip::<SocketOpType>(name), name);
            assert_eq!(round_trip::<DnsResType>(name), name);
            assert_eq!(round_trip::<DnsRCode>(name), name);
            assert_eq!(round_trip::<TcpState>(name), name);
            assert_eq!(round_trip::<EndReason>(name), name);
        }
    }

    #[test]
    fn empty_names_mean_the_same_as_in_the_go_package() {
        assert_eq!(round_trip::<SocketOpType>(""), "unrecognized-op");
        assert_eq!(round_trip::<DnsResType>(""), "unrecognized-type");
        assert_eq!(round_trip::<DnsRCode>(""), "unrecognized-rcode");
        assert_eq!(round_trip::<TcpState>(""), "none");
    }

    #[test]
    fn both_spellings_of_syn_recv_are_read() {
        assert_eq!(round_trip::<TcpState>("sync-recv"), "syn-recv");
        assert_eq!(round_trip::<TcpState>("syn-recv"), "syn-recv");
    }

    #[test]
    fn only_strings_are_names() {
        for json in ["1", "null", "true", "[]", "{}"] {
            assert!(serde_json::from_str::<TcpState>(json).is_err(), "{json}");
        }
    }
}
