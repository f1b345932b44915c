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
    Other,
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
        _ => Value::Other,
    };
    Ok(Answer { name, record_type, class, ttl, value })
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
