//! The key-value part of a GGUF header.

use crate::gguf::cursor::Cursor;

/// Arrays inside arrays may go this deep; real files have none.
const MAX_NESTING: usize = 4;

/// The type number of a value in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    fn from_number(number: u32) -> Result<Self, String> {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
            .get(number as usize)
            .copied()
            .ok_or_else(|| format!("value type {number} is unknown"))
    }

    /// The fewest bytes that one value of the type takes.
    fn min_size(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::String | Self::U64 | Self::I64 | Self::F64 => 8,
            Self::Array => 12,
        }
    }
}

/// A value. Strings and arrays borrow from the file, so a header costs memory by its number of keys only.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(&'a str),
    Array(ArrayValue<'a>),
}

/// An array that has been walked once to its end, so that its elements are known to be readable.
#[derive(Clone, Debug)]
pub(crate) struct ArrayValue<'a> {
    pub(crate) element: ValueType,
    pub(crate) len: u64,
    elements: Cursor<'a>,
}

impl<'a> ArrayValue<'a> {
    /// The elements in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (element, mut cursor) = (self.element, self.elements.clone());
        (0..self.len).map_while(move |_| read_value(&mut cursor, element, 0).ok())
    }
}

impl<'a> Value<'a> {
    /// Reads a type number and the value behind it.
    pub(crate) fn read(cursor: &mut Cursor<'a>) -> Result<Self, String> {
        let value_type = ValueType::from_number(cursor.u32()?)?;
        read_value(cursor, value_type, 0)
    }

    /// The value as a count or id, if it is a non-negative integer.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Unsigned(value) => Some(value),
            Self::Signed(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&ArrayValue<'a>> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }
}

fn read_value<'a>(cursor: &mut Cursor<'a>, value_type: ValueType, depth: usize) -> Result<Value<'a>, String> {
    Ok(match value_type {
        ValueType::U8 => Value::Unsigned(cursor.u8()?.into()),
        ValueType::I8 => Value::Signed((cursor.u8()? as i8).into()),
        ValueType::U16 => Value::Unsigned(cursor.u16()?.into()),
        ValueType::I16 => Value::Signed((cursor.u16()? as i16).into()),
        ValueType::U32 => Value::Unsigned(cursor.u32()?.into()),
        ValueType::I32 => Value::Signed((cursor.u32()? as i32).into()),
        ValueType::U64 => Value::Unsigned(cursor.u64()?),
        ValueType::I64 => Value::Signed(cursor.u64()? as i64),
        ValueType::F32 => Value::Float(f32::from_bits(cursor.u32()?).into()),
        ValueType::F64 => Value::Float(f64::from_bits(cursor.u64()?)),
        ValueType::Bool => match cursor.u8()? {
            0 => Value::Bool(false),
            1 => Value::Bool(true),
            other => return Err(format!("a bool has the value {other}")),
        },
        ValueType::String => Value::String(cursor.string()?),
        ValueType::Array => Value::Array(read_array(cursor, depth + 1)?),
    })
}

fn read_array<'a>(cursor: &mut Cursor<'a>, depth: usize) -> Result<ArrayValue<'a>, String> {
    if depth > MAX_NESTING {
        return Err(format!("arrays are nested deeper than {MAX_NESTING}"));
    }
    let element = ValueType::from_number(cursor.u32()?)?;
    let len = cursor.u64()?;
    // A lying length is reported as such, and not as the string or number at which the file happens to end.
    if len > cursor.remaining() as u64 / element.min_size() {
        return Err(format!("an array of {len} elements is announced, but {} bytes follow", cursor.remaining()));
    }
    let elements = cursor.clone();
    for _ in 0..len {
        read_value(cursor, element, depth)?;
    }
    Ok(ArrayValue { element, len, elements })
}
