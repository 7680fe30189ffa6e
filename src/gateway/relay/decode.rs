//! Content codings of upstreams that code although they were asked not to.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::HeaderValue;

use crate::engine::decision::{Denial, Reason};

/// Bytes that are decoded at once: what they may become is bounded before more is taken.
const PIECE: usize = 1024;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// `gzip`.
    Gzip,
}

impl Coding {
    /// The coding that a header names.
    ///
    /// # Errors
    /// One that the gateway cannot take off: what it cannot read it does not pass on.
    pub fn of(header: Option<&HeaderValue>) -> Result<Self, Denial> {
        match header.map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase()).as_deref() {
            None | Some(b"identity" | b"") => Ok(Self::Identity),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip),
            Some(_) => Err(Denial::new(Reason::UpstreamInvalid).because("a content coding nobody asked for")),
        }
    }
}

/// Takes a content coding off, piece by piece.
#[derive(Debug)]
pub struct Decoder {
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Decoder {
    /// A decoder of `coding`.
    pub fn new(coding: Coding) -> Self {
        Self { gzip: (coding == Coding::Gzip).then(|| MultiGzDecoder::new(Vec::new())) }
    }

    /// What `piece` becomes; at most `cap` bytes.
    ///
    /// # Errors
    /// It is not coded as it says, or becomes too large.
    pub fn push(&mut self, piece: Bytes, cap: usize) -> Result<Bytes, Denial> {
        let Some(gzip) = &mut self.gzip else { return Ok(piece) };
        let broken = |error: std::io::Error| Denial::new(Reason::UpstreamInvalid).because(format!("gzip: {error}"));
        for part in piece.chunks(PIECE) {
            gzip.write_all(part).map_err(broken)?;
            if gzip.get_ref().len() > cap {
                return Err(Denial::new(Reason::ResponseTooLarge));
            }
        }
        gzip.flush().map_err(broken)?;
        Ok(Bytes::from(std::mem::take(gzip.get_mut())))
    }

    /// Ends the coding.
    ///
    /// # Errors
    /// It is not at its end.
    pub fn finish(mut self) -> Result<Bytes, Denial> {
        let Some(gzip) = &mut self.gzip else { return Ok(Bytes::new()) };
        gzip.try_finish().map_err(|error| Denial::new(Reason::UpstreamInvalid).because(format!("gzip: {error}")))?;
        Ok(Bytes::from(std::mem::take(gzip.get_mut())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn k10_gzip_is_taken_off_in_any_pieces_and_within_bounds() {
        let coded = zipped(b"a list");
        for size in [1, 3, coded.len()] {
            let mut decoder = Decoder::new(Coding::Gzip);
            let mut plain = Vec::new();
            for piece in coded.chunks(size) {
                plain.extend_from_slice(&decoder.push(Bytes::copy_from_slice(piece), 100).unwrap());
            }
            plain.extend_from_slice(&decoder.finish().unwrap());
            assert_eq!(plain, b"a list");
        }
        let bomb = zipped(&vec![b'a'; 4 << 20]);
        let refused = Decoder::new(Coding::Gzip).push(Bytes::from(bomb), 1 << 20).unwrap_err();
        assert_eq!(refused.reason, Reason::ResponseTooLarge);
        let garbage = Decoder::new(Coding::Gzip).push(Bytes::from_static(b"{\"jsonrpc\"}"), 100);
        assert_eq!(garbage.unwrap_err().reason, Reason::UpstreamInvalid);
        let mut cut = Decoder::new(Coding::Gzip);
        cut.push(Bytes::copy_from_slice(coded.get(..coded.len() - 9).unwrap()), 100).unwrap();
        assert!(cut.finish().is_err());
    }

    #[test]
    fn unknown_codings_are_refused() {
        let of = |text| Coding::of(Some(&HeaderValue::from_static(text))).map_err(|denial| denial.reason);
        assert_eq!(
            (of("gzip"), of("GZIP"), of("identity")),
            (Ok(Coding::Gzip), Ok(Coding::Gzip), Ok(Coding::Identity))
        );
        for unknown in ["br", "deflate", "gzip, gzip", "zstd"] {
            assert_eq!(of(unknown), Err(Reason::UpstreamInvalid), "{unknown}");
        }
    }
}
