//! The header of a frame of a WebSocket that is a whole message (RFC 6455, 5.2).

pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PONG: u8 = 0x8a;

/// Writes the header of a message of so many bytes, which begins with one of the bytes above. A frame of a server has no mask.
pub(super) fn write_header(opening: u8, bytes: usize, to: &mut Vec<u8>) {
    to.push(opening);
    match (u8::try_from(bytes), u16::try_from(bytes)) {
        (Ok(length @ ..=125), _) => to.push(length),
        (_, Ok(length)) => {
            to.push(126);
            to.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            to.push(127);
            to.extend_from_slice(&(bytes as u64).to_be_bytes());
        }
    }
}
