//! Subjects and issuers of certificates as text (RFC 2253), in the form that OpenSSL and Go print.

use std::fmt::Write;

use x509_parser::{
    asn1_rs::{Any, Tag, ToDer},
    x509::{AttributeTypeAndValue, X509Name},
};

use crate::hex::hex;

/// Returns a name with its most specific part first: `CN=GTS CA 1C3,O=Google Trust Services LLC,C=US`.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> =
        name.iter_rdn().map(|rdn| rdn.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let value = attribute.attr_value();
    let name = keyword(&oid).unwrap_or(&oid);
    // RFC 2253 §2.4 demands hexadecimal for every attribute without a keyword. Text is shown as text all the same,
    // because extended validation certificates have many such attributes.
    match text(value) {
        Some(text) => format!("{name}={}", escaped(&text)),
        None => format!("{name}=#{}", der_hex(value)),
    }
}

/// Returns the keyword of an attribute type: those of RFC 2253 §2.3, and those that OpenSSL and Go's crypto/x509 add.
fn keyword(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.17" => "POSTALCODE",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// Returns the text of an ASN.1 string of any type. Returns `None` for other values and invalid strings.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        // All implementations read it as Latin-1 instead of T.61.
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let (units, []) = bytes.as_chunks::<2>() else { return None };
            char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)))
                .collect::<Result<_, _>>()
                .ok()
        }
        Tag::UniversalString => {
            let (units, []) = bytes.as_chunks::<4>() else { return None };
            units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect()
        }
        _ => None,
    }
}

/// Escapes special characters (RFC 2253 §2.4) and control characters.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => escaped.extend(['\\', character]),
            ' ' if index == 0 || index == last => escaped.push_str("\\ "),
            '#' if index == 0 => escaped.push_str("\\#"),
            control if control.is_control() => {
                let mut bytes = [0; 4];
                for byte in control.encode_utf8(&mut bytes).bytes() {
                    // Writing to a string does not fail.
                    let _ = write!(escaped, "\\{byte:02X}");
                }
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// Returns the DER encoding of a value in hexadecimal, or only its contents if it cannot be encoded again.
fn der_hex(value: &Any<'_>) -> String {
    hex(&value.to_der_vec().unwrap_or_else(|_| value.data.to_vec()))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn attributes_are_reversed_and_have_keywords() {
        let name = name(&[
            &[(&[85, 4, 6], 19, b"US")],
            &[(&[85, 4, 10], 12, b"Google Trust Services LLC")],
            &[(&[85, 4, 3], 12, b"GTS CA 1C3")],
        ]);
        assert_eq!(name, "CN=GTS CA 1C3,O=Google Trust Services LLC,C=US");
    }

    #[test]
    fn special_characters_are_escaped() {
        // Examples of RFC 2253 §5.
        assert_eq!(name(&[&[(&[85, 4, 10], 12, b"Sue, Grabbit and Runn")]]), r"O=Sue\, Grabbit and Runn");
        assert_eq!(name(&[&[(&[85, 4, 3], 12, b"Before\rAfter")]]), r"CN=Before\0DAfter");
        assert_eq!(name(&[&[(&[85, 4, 3], 12, b" #a#\"+<>;\\ ")]]), r#"CN=\ #a#\"\+\<\>\;\\\ "#);
        assert_eq!(name(&[&[(&[85, 4, 3], 12, b"#1 ")]]), r"CN=\#1\ ");
        assert_eq!(name(&[&[(&[85, 4, 3], 12, b" ")]]), r"CN=\ ");
        assert_eq!(name(&[&[(&[85, 4, 3], 12, "Lučić".as_bytes())]]), "CN=Lučić");
    }

    #[test]
    fn multiple_values_and_unknown_types_are_formatted() {
        let multi = name(&[&[(&[85, 4, 11], 12, b"Sales"), (&[85, 4, 3], 12, b"J. Smith")]]);
        assert_eq!(multi, "OU=Sales+CN=J. Smith");
        // RFC 2253 §5: an attribute of an unknown type with the value of an OCTET STRING.
        let unknown = name(&[&[(&[43, 6, 1, 4, 1, 0x8b, 0x3a, 0], 4, b"Hi")]]);
        assert_eq!(unknown, "1.3.6.1.4.1.1466.0=#04024869");
        // title, jurisdictionOfIncorporationCountryName and businessCategory.
        let extended = name(&[
            &[(&[43, 6, 1, 4, 1, 0x82, 0x37, 60, 2, 1, 3], 19, b"US")],
            &[(&[85, 4, 15], 12, b"Private Organization"), (&[85, 4, 12], 12, b"Dr, #1")],
        ]);
        assert_eq!(extended, r"2.5.4.15=Private Organization+2.5.4.12=Dr\, #1,1.3.6.1.4.1.311.60.2.1.3=US");
        assert_eq!(name(&[&[(&[85, 4, 12], 12, b"#0c")]]), r"2.5.4.12=\#0c", "not in hexadecimal");
    }

    #[test]
    fn each_string_type_is_decoded() {
        assert_eq!(name(&[&[(&[85, 4, 3], 30, b"\x00J\x01\x0d")]]), "CN=Jč");
        assert_eq!(name(&[&[(&[85, 4, 3], 28, b"\x00\x00\x00J\x00\x01\xf6\x00")]]), "CN=J😀");
        assert_eq!(name(&[&[(&[85, 4, 3], 20, b"caf\xe9")]]), "CN=café");
        assert_eq!(name(&[&[(&[85, 4, 3], 2, b"\x05")]]), "CN=#020105");
    }

    /// An object identifier, a tag, and the contents after the tag.
    type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

    fn name(rdns: &[&[Attribute<'_>]]) -> String {
        let der = |tag: u8, body: &[u8]| [&[tag, body.len() as u8], body].concat();
        let rdns: Vec<u8> = rdns
            .iter()
            .flat_map(|rdn| {
                let attributes: Vec<u8> = rdn
                    .iter()
                    .flat_map(|(oid, tag, value)| der(0x30, &[der(6, oid), der(*tag, value)].concat()))
                    .collect();
                der(0x31, &attributes)
            })
            .collect();
        rfc2253(&X509Name::from_der(&der(0x30, &rdns)).unwrap().1)
    }
}
