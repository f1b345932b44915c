//! [`Decoder`]: decodes the compressed fields of HTTP/2 (HPACK, RFC 7541).
//!
//! Existing crates are unsuitable for bytes of a peer: `httlib-hpack` panics where an integer is cut off, and
//! `loona-hpack` builds its Huffman tables anew for each string. The Huffman code is that of `httlib-huffman`.

use super::static_table::STATIC_TABLE;
use httlib_huffman::DecoderSpeed;
use std::collections::VecDeque;

/// Decodes the blocks of fields of one direction of a connection.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The newest entry first.
    table: VecDeque<Entry>,
    /// The size of the entries, as RFC 7541 section 4.1 counts it.
    size: usize,
    /// The size that the sender has chosen.
    max_size: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    /// The name, and the value behind it.
    bytes: Box<[u8]>,
    name_length: usize,
}

/// The block cannot be decoded, and so no later one can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undecodable;

/// The size of the table before the sender chooses another one (RFC 9113 section 6.5.2).
const DEFAULT_TABLE_SIZE: usize = 4096;
/// The largest table that is kept. Senders are allowed 4 KiB as a rule.
const MAX_TABLE_SIZE: usize = 64 << 10;
/// How much memory is kept for the next name and the next value.
const MAX_KEPT_BYTES: usize = 4 << 10;
/// What an entry counts in addition to its name and value (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;

impl Default for Decoder {
    fn default() -> Self {
        let (name, value) = (Vec::new(), Vec::new());
        Decoder { table: VecDeque::new(), size: 0, max_size: DEFAULT_TABLE_SIZE, name, value }
    }
}

impl Decoder {
    /// Decodes a block, and passes the name and the value of each field to `field`.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Undecodable> {
        while let Some(&first) = block.first() {
            match first {
                // Indexed (section 6.1).
                0x80.. => {
                    let index = take_integer(&mut block, 7)?;
                    let (name, value) = self.entry(index)?;
                    field(name, value);
                }
                // A literal that is added to the table (section 6.2.1).
                0x40.. => {
                    self.take_literal(&mut block, 6)?;
                    field(&self.name, &self.value);
                    self.insert();
                }
                // Another size of the table (section 6.3).
                0x20.. => {
                    self.max_size = take_integer(&mut block, 5)?;
                    if self.max_size > MAX_TABLE_SIZE {
                        return Err(Undecodable);
                    }
                    self.evict();
                }
                // A literal that is not added to the table (sections 6.2.2 and 6.2.3).
                _ => {
                    self.take_literal(&mut block, 4)?;
                    field(&self.name, &self.value);
                }
            }
        }
        // Few fields are longer, and the memory is kept as long as the connection.
        self.name.shrink_to(MAX_KEPT_BYTES);
        self.value.shrink_to(MAX_KEPT_BYTES);
        Ok(())
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), Undecodable> {
        let index = index.checked_sub(1).ok_or(Undecodable)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.table.get(index - STATIC_TABLE.len()).ok_or(Undecodable)?;
        Ok(entry.bytes.split_at(entry.name_length))
    }

    /// Takes a literal into `name` and `value`, where the index of the name has a prefix of that many bits.
    fn take_literal(&mut self, block: &mut &[u8], prefix: u32) -> Result<(), Undecodable> {
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        match take_integer(block, prefix)? {
            0 => take_string(block, &mut name)?,
            index => name.extend_from_slice(self.entry(index)?.0),
        }
        self.name = name;
        self.value.clear();
        take_string(block, &mut self.value)
    }

    /// Adds `name` and `value` to the table.
    fn insert(&mut self) {
        let entry_size = self.name.len() + self.value.len() + ENTRY_OVERHEAD;
        if entry_size > self.max_size {
            // That is no error: it empties the table (section 4.4).
            self.table.clear();
            self.size = 0;
            return;
        }
        self.size += entry_size;
        let bytes = [&self.name[..], &self.value].concat().into();
        self.table.push_front(Entry { bytes, name_length: self.name.len() });
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.max_size
            && let Some(oldest) = self.table.pop_back()
        {
            self.size -= oldest.bytes.len() + ENTRY_OVERHEAD;
        }
    }
}

/// Takes an integer whose first byte has a prefix of that many bits (section 5.1).
fn take_integer(bytes: &mut &[u8], prefix: u32) -> Result<usize, Undecodable> {
    /// Four bytes of seven bits: more than any length or index that is accepted.
    const MAX_BYTES: u32 = 4;
    let (first, mut rest) = bytes.split_first().ok_or(Undecodable)?;
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (next, behind) = rest.split_first().ok_or(Undecodable)?;
            rest = behind;
            value += usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
            if shift == 7 * MAX_BYTES {
                return Err(Undecodable);
            }
        }
    }
    *bytes = rest;
    Ok(value)
}

/// Takes a string, which may be compressed with the Huffman code (section 5.2), and appends it to `to`.
fn take_string(bytes: &mut &[u8], to: &mut Vec<u8>) -> Result<(), Undecodable> {
    let is_compressed = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(bytes, 7)?;
    let (string, rest) = bytes.split_at_checked(length).ok_or(Undecodable)?;
    *bytes = rest;
    if is_compressed {
        httlib_huffman::decode(string, to, DecoderSpeed::FiveBits).map_err(|_| Undecodable)
    } else {
        to.extend_from_slice(string);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn decode(decoder: &mut Decoder, hex: &str) -> Result<Vec<String>, Undecodable> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
        decoder
            .decode(&bytes(hex), |name, value| fields.push(format!("{}: {}", text(name), text(value))))
            .map(|()| fields)
    }

    #[test]
    fn the_requests_of_the_rfc_are_decoded() {
        // RFC 7541, appendices C.3 (plain) and C.4 (Huffman).
        for blocks in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let decoder = &mut Decoder::default();
            let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
            assert_eq!(decode(decoder, blocks[0]).unwrap(), first);
            assert_eq!(decode(decoder, blocks[1]).unwrap()[4..], ["cache-control: no-cache"]);
            assert_eq!(
                decode(decoder, blocks[2]).unwrap(),
                [
                    ":method: GET",
                    ":scheme: https",
                    ":path: /index.html",
                    ":authority: www.example.com",
                    "custom-key: custom-value",
                ]
            );
            assert_eq!((decoder.table.len(), decoder.size), (3, 164));
        }
    }

    #[test]
    fn the_responses_of_the_rfc_evict_entries() {
        // RFC 7541, appendix C.5, with a table of 256 bytes.
        let decoder = &mut Decoder { max_size: 256, ..Decoder::default() };
        let blocks = [
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 \
             474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 \
             666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 \
             3630 303b 2076 6572 7369 6f6e 3d31",
        ];
        for (block, (size, last)) in blocks.iter().zip([
            (222, "location: https://www.example.com"),
            (222, "location: https://www.example.com"),
            (215, "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ]) {
            assert_eq!(decode(decoder, block).unwrap().last().unwrap(), last);
            assert_eq!(decoder.size, size);
        }
    }

    #[test]
    fn the_size_of_the_table_changes() {
        let decoder = &mut Decoder::default();
        let insert = "4001 6101 62"; // a: b
        assert_eq!(decode(decoder, &insert.repeat(3)).unwrap(), ["a: b"; 3]);
        assert_eq!(decoder.size, 3 * 34);
        assert_eq!(decode(decoder, "3f23 be").unwrap(), ["a: b"]); // to 66
        assert_eq!(decoder.size, 34);
        assert_eq!(decode(decoder, "20"), Ok(vec![]));
        assert_eq!(decode(decoder, insert).unwrap(), ["a: b"]); // larger than the table
        assert_eq!((decoder.size, decoder.table.len()), (0, 0));
        assert_eq!(decode(decoder, "3fe1ffff03"), Err(Undecodable));
    }

    #[test]
    fn malformed_blocks_are_an_error() {
        for block in [
            "80",                 // no index
            "be",                 // an index that is not in the table
            "ff",                 // a cut integer
            "ffffffffffff",       // a long one
            "40",                 // no name
            "4001",               // a name that is cut
            "400161",             // no value
            "4001 6105 62",       // a value that is cut
            "4001 6184 ffffffff", // the end of a string in the Huffman code
            "0f2f 01",            // a name that is not in the table
            "7fffffff7f",         // the same with a large index
        ] {
            assert_eq!(decode(&mut Decoder::default(), block), Err(Undecodable), "{block}");
        }
    }
}
