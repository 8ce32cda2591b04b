//! The wire format of protocol buffers (protobuf.dev/programming-guides/encoding), as far as reading known fields and
//! stepping over unknown ones needs it.

/// A message, or any other value with a length, that is read field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// From the beginning of the file to this message's end.
    file: &'a [u8],
    /// Where the next field begins.
    at: usize,
}

/// A field's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2: a message, a text or bytes.
    Message(Message<'a>),
    /// Wire types 1 and 5, which no field of ours has.
    Fixed,
}

/// These bytes are not this format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    /// Where, in bytes from the file's beginning.
    pub(crate) at: usize,
}

impl<'a> Message<'a> {
    /// A whole file.
    pub(crate) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    /// What has not been read of it.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.file.get(self.at..).unwrap_or_default()
    }

    /// Where reading is, in bytes from the file's beginning.
    pub(crate) fn at(self) -> usize {
        self.at
    }

    /// The next field, by its number.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Damaged> {
        if self.at >= self.file.len() {
            return Ok(None);
        }
        let damaged = Damaged { at: self.at };
        let tag = self.number()?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0).ok_or(damaged)?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.fixed(8)?,
            2 => Value::Message(self.message()?),
            5 => self.fixed(4)?,
            _ => return Err(damaged),
        };
        Ok(Some((number, value)))
    }

    /// Seven bits a byte, the lowest first; ten bytes at most.
    fn number(&mut self) -> Result<u64, Damaged> {
        let damaged = Damaged { at: self.at };
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.file.get(self.at).ok_or(damaged)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged)
    }

    fn message(&mut self) -> Result<Self, Damaged> {
        let damaged = Damaged { at: self.at };
        let len = usize::try_from(self.number()?).map_err(|_| damaged)?;
        let at = self.at;
        self.at = at.checked_add(len).ok_or(damaged)?;
        let file = self.file.get(..self.at).ok_or(damaged)?;
        Ok(Self { file, at })
    }

    fn fixed(&mut self, len: usize) -> Result<Value<'a>, Damaged> {
        let damaged = Damaged { at: self.at };
        self.at += len;
        if self.at > self.file.len() { Err(damaged) } else { Ok(Value::Fixed) }
    }
}
