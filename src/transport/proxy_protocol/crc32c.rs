//! CRC-32C (Castagnoli), as the checksum of a version 2 header uses it.

/// The polynomial, lowest bit first. Source: RFC 3720, appendix B.4.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = table();

/// The checksum of a header, the four bytes at `sum_at` taken as zeros.
pub(super) fn of_header(header: &[u8], sum_at: usize) -> u32 {
    let sum_bytes = sum_at..sum_at + 4;
    let bytes = header.iter().enumerate().map(|(at, &byte)| if sum_bytes.contains(&at) { 0 } else { byte });
    !bytes.fold(u32::MAX, |crc, byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::of_header;

    #[test]
    fn crc_of_the_check_string_is_the_published_one() {
        // RFC 3720, appendix B.4: 32 bytes of zeros; and the usual check value of "123456789".
        assert_eq!(of_header(&[0; 32], 1000), 0x8a91_36aa);
        assert_eq!(of_header(b"123456789", 1000), 0xe306_9283);
    }
}
