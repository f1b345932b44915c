//! Resource records (RFC 1035 section 4.1.3). A stub needs the values of few types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Reader, WireError, WireName};

pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const PTR: u16 = 12;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const OPT: u16 = 41;
pub(super) const SVCB: u16 = 64;
pub(super) const HTTPS: u16 = 65;
pub(super) const CLASS_IN: u16 = 1;

/// A resource record of the answer section.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) name: WireName<'a>,
    pub(super) record_type: u16,
    pub(super) class: u16,
    /// Time to live in seconds.
    pub(super) ttl: u32,
    pub(super) value: Value<'a>,
}

/// The data of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// The address of an A or AAAA record.
    Address(IpAddr),
    /// The name in a CNAME, NS or PTR record, or the host of an MX record.
    Name(WireName<'a>),
    /// The data of an SVCB or HTTPS record.
    Svcb(Svcb<'a>),
    Other,
}

/// The data of an SVCB or HTTPS record (RFC 9460 section 2.2). Parameters that are not listed here are left out.
#[derive(Debug, PartialEq)]
pub(super) struct Svcb<'a> {
    /// 0 for an alias of `target`, otherwise lower values are preferred.
    pub(super) priority: u16,
    pub(super) target: WireName<'a>,
    /// The protocols, each preceded by its length.
    pub(super) alpn: &'a [u8],
    pub(super) port: Option<u16>,
    /// Addresses one after the other.
    pub(super) ipv4_hints: &'a [u8],
    pub(super) ipv6_hints: &'a [u8],
    /// Whether a configuration for Encrypted ClientHello is offered.
    pub(super) ech: bool,
}

/// A resource record whose data has not been decoded.
pub(super) struct RawRecord<'a> {
    name: WireName<'a>,
    pub(super) record_type: u16,
    class: u16,
    pub(super) ttl: u32,
    data: &'a [u8],
    /// A reader positioned at `data`, with which compressed names can be read.
    reader: Reader<'a>,
}

/// Reads a resource record and decodes its data.
pub(super) fn read_answer<'a>(reader: &mut Reader<'a>) -> Result<Answer<'a>, String> {
    let text = |error: WireError| error.to_string();
    let RawRecord { name, record_type, class, ttl, data, mut reader } = read_record(reader).map_err(text)?;
    let wrong_length = || format!("record of type {record_type} with {} bytes of data", data.len());
    let value = match record_type {
        A => Value::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).map_err(|_| wrong_length())?).into()),
        AAAA => {
            Value::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).map_err(|_| wrong_length())?).into())
        }
        CNAME | NS | PTR | MX => {
            let begin = reader.offset();
            if record_type == MX {
                reader.u16().map_err(text)?;
            }
            let name = reader.name().map_err(text)?;
            if reader.offset() - begin != data.len() {
                return Err(wrong_length());
            }
            Value::Name(name)
        }
        // What is not understood must not make the rest of the reply unusable.
        SVCB | HTTPS => read_svcb(&mut reader, data.len()).map_or(Value::Other, Value::Svcb),
        _ => Value::Other,
    };
    Ok(Answer { name, record_type, class, ttl, value })
}

/// Reads the data of an SVCB or HTTPS record. Returns `None` if it is malformed.
fn read_svcb<'a>(reader: &mut Reader<'a>, len: usize) -> Option<Svcb<'a>> {
    const ALPN: u16 = 1;
    const PORT: u16 = 3;
    const IPV4_HINT: u16 = 4;
    const ECH: u16 = 5;
    const IPV6_HINT: u16 = 6;

    let end = reader.offset() + len;
    let (priority, target) = (reader.u16().ok()?, reader.name().ok()?);
    let mut svcb =
        Svcb { priority, target, alpn: &[], port: None, ipv4_hints: &[], ipv6_hints: &[], ech: false };
    let mut last_key = None;
    while reader.offset() < end {
        let key = reader.u16().ok()?;
        let value_len = reader.u16().ok()?;
        let value = reader.bytes(value_len.into()).ok()?;
        let is_valid = match key {
            _ if last_key >= Some(key) => false, // each key once, in ascending order
            ALPN => {
                svcb.alpn = value;
                is_list_of_texts(value)
            }
            PORT => {
                svcb.port = value.try_into().map(u16::from_be_bytes).ok();
                svcb.port.is_some()
            }
            IPV4_HINT => {
                svcb.ipv4_hints = value;
                !value.is_empty() && value.len().is_multiple_of(4)
            }
            ECH => {
                svcb.ech = true;
                true
            }
            IPV6_HINT => {
                svcb.ipv6_hints = value;
                !value.is_empty() && value.len().is_multiple_of(16)
            }
            _ => true,
        };
        if !is_valid {
            return None;
        }
        last_key = Some(key);
    }
    (reader.offset() == end).then_some(svcb)
}

/// Returns `true` for texts that are each preceded by their length, which is not zero.
fn is_list_of_texts(mut list: &[u8]) -> bool {
    while let Some((len, rest)) = list.split_first() {
        match rest.split_at_checked((*len).into()) {
            Some((text, after)) if !text.is_empty() => list = after,
            _ => return false,
        }
    }
    true
}

/// Reads a resource record without decoding its data.
pub(super) fn read_record<'a>(reader: &mut Reader<'a>) -> Result<RawRecord<'a>, WireError> {
    let name = reader.name()?;
    let (record_type, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
    let len = reader.u16()?;
    let at_data = reader.clone();
    let data = reader.bytes(len.into())?;
    Ok(RawRecord { name, record_type, class, ttl, data, reader: at_data })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the data of an HTTPS record.
    fn svcb(data: &[u8]) -> Value<'_> {
        read_svcb(&mut Reader::new(data, 0), data.len()).map_or(Value::Other, Value::Svcb)
    }

    #[test]
    fn service_bindings_are_read() {
        let data = b"\0\x01\x03svc\0\0\x01\0\x03\x02h2\0\x03\0\x02\x20\xfb\0\x04\0\x04\xc0\0\x02\x01\0\x05\0\0\xff\0\0\x01x";
        let Value::Svcb(read) = svcb(data) else { panic!("malformed") };
        assert_eq!((read.priority, read.alpn, read.port), (1, &b"\x02h2"[..], Some(8443)));
        assert_eq!((read.ipv4_hints, read.ipv6_hints, read.ech), (&[192, 0, 2, 1][..], &[][..], true));
        assert!(read.target.is([&b"svc"[..]]));
        for cut in 0..data.len() {
            // Between parameters a shorter record is complete.
            let is_whole = [7, 14, 20, 28, 32].contains(&cut);
            assert_eq!(svcb(&data[..cut]) != Value::Other, is_whole, "{cut}");
        }
    }

    #[test]
    fn malformed_service_bindings_have_no_value() {
        let param = |key: u8, value: &[u8]| [&[0, key, 0, value.len() as u8][..], value].concat();
        let record = |params: &[Vec<u8>]| [&[0, 1, 0][..], &params.concat()].concat();
        let (port, ech) = (param(3, &[1, 2]), param(5, &[]));
        assert!(matches!(svcb(&record(&[port.clone(), ech.clone()])), Value::Svcb(_)));
        for (what, params) in [
            ("descending keys", vec![ech, port.clone()]),
            ("a key twice", vec![port.clone(), port]),
            ("a protocol without its end", vec![param(1, b"\x03h2")]),
            ("an empty protocol", vec![param(1, b"\x02h2\0")]),
            ("a port of one byte", vec![param(3, &[1])]),
            ("half an IPv4 address", vec![param(4, &[192, 0])]),
            ("no IPv6 address", vec![param(6, &[])]),
        ] {
            assert_eq!(svcb(&record(&params)), Value::Other, "{what}");
        }
    }
}
