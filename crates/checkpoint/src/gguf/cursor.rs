//! Reading little-endian values from bytes that may lie about their own length.

/// A position in a byte slice. Every read is checked against the end, and nothing is allocated.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let remaining = self.remaining();
        let taken = usize::try_from(len)
            .ok()
            .and_then(|len| self.position.checked_add(len))
            .and_then(|end| self.bytes.get(self.position..end));
        let Some(taken) = taken else {
            return Err(format!("{len} bytes are announced at byte {}, but {remaining} follow", self.position));
        };
        self.position += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, String> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A string: its length in bytes as u64, then UTF-8.
    pub(crate) fn string(&mut self) -> Result<&'a str, String> {
        let start = self.position;
        let len = self.u64()?;
        std::str::from_utf8(self.take(len)?).map_err(|_| format!("the string at byte {start} is not UTF-8"))
    }
}
