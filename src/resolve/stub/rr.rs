//! Resource records (RFC 1035 section 4.1.3), of which a stub needs few kinds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    rr::Name,
    serialize::binary::{BinDecodable, BinDecoder, DecodeError},
};

pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const PTR: u16 = 12;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const OPT: u16 = 41;
pub(super) const CLASS_IN: u16 = 1;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) name: Name,
    pub(super) record_type: u16,
    pub(super) class: u16,
    /// In seconds.
    pub(super) ttl: u32,
    pub(super) value: Value,
}

#[derive(Debug, PartialEq)]
pub(super) enum Value {
    /// A, AAAA.
    Address(IpAddr),
    /// CNAME, NS, PTR, and the host of an MX.
    Name(Name),
    Other,
}

/// A resource record whose data has not been read.
pub(super) struct RawRecord<'a> {
    name: Name,
    pub(super) record_type: u16,
    class: u16,
    pub(super) ttl: u32,
    data: &'a [u8],
    /// At the beginning of `data`, to read names that are compressed.
    decoder: BinDecoder<'a>,
}

pub(super) fn read_answer(decoder: &mut BinDecoder<'_>) -> Result<Answer, String> {
    let text = |error: DecodeError| error.to_string();
    let RawRecord { name, record_type, class, ttl, data, mut decoder } =
        read_record(decoder).map_err(text)?;
    let wrong_length = || format!("record of type {record_type} with {} bytes of data", data.len());
    let value = match record_type {
        A => Value::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).map_err(|_| wrong_length())?).into()),
        AAAA => {
            Value::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).map_err(|_| wrong_length())?).into())
        }
        CNAME | NS | PTR | MX => {
            let begin = decoder.index();
            if record_type == MX {
                read_u16(&mut decoder).map_err(text)?;
            }
            let name = Name::read(&mut decoder).map_err(text)?;
            if decoder.index() - begin != data.len() {
                return Err(wrong_length());
            }
            Value::Name(name)
        }
        _ => Value::Other,
    };
    Ok(Answer { name, record_type, class, ttl, value })
}

pub(super) fn read_record<'a>(decoder: &mut BinDecoder<'a>) -> Result<RawRecord<'a>, DecodeError> {
    let name = Name::read(decoder)?;
    let (record_type, class) = (read_u16(decoder)?, read_u16(decoder)?);
    // Any value will do: nothing is reckoned from it.
    let ttl = decoder.read_u32()?.unverified();
    let len = read_u16(decoder)?;
    // A message is at most 65,535 bytes long, by its length prefix or the datagram's.
    let at = decoder.clone(u16::try_from(decoder.index()).map_err(|_| DecodeError::InsufficientBytes)?);
    let data = decoder.read_slice(len.into())?.unverified();
    Ok(RawRecord { name, record_type, class, ttl, data, decoder: at })
}

pub(super) fn read_u16(decoder: &mut BinDecoder<'_>) -> Result<u16, DecodeError> {
    // Every number is compared with what is known, or recorded as it came.
    Ok(decoder.read_u16()?.unverified())
}
