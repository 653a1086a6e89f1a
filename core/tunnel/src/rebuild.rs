//! Super-packets put together again from the segments that arrive, across
//! batches and across receive calls, until the socket is empty.

use ntmobile_capsule::{
    Addresses, Checksum, Dropped, Inner, Kind, Slice, Template, Trailer, clamp, ecn, finish_at,
    stamp,
};

use crate::counters::{Counters, add};
use crate::packets::{Left, Packets};

/// A whole super-packet, and one capsule's content behind it.
const BUFFER: usize = 2 << 16;
const LONGEST_HEADERS: usize = 255;

/// Where content is opened, and the super-packet that grows there.
pub(crate) struct Rebuild {
    buffer: Box<[u8]>,
    filled: usize,
    run: Option<Run>,
}

/// What arrived with a capsule's content.
#[derive(Clone, Copy)]
pub(crate) struct Arrival<'a> {
    pub index: u32,
    pub addresses: &'a Addresses,
    /// The path's size, if there is a path.
    pub mtu: Option<u16>,
    /// ECN bits of the outer header.
    pub ecn: u8,
    pub length: usize,
}

/// Where finished packets go.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub packets: Option<&'a dyn Packets>,
    pub counters: &'a Counters,
}

/// Consecutive segments of one super-packet; their payload fills the buffer.
struct Run {
    index: u32,
    ecn: u8,
    first: u16,
    trailer: Trailer,
    template: [u8; LONGEST_HEADERS],
    stamped: [u8; LONGEST_HEADERS],
}

impl Default for Rebuild {
    fn default() -> Self {
        Self {
            buffer: vec![0; BUFFER].into_boxed_slice(),
            filled: 0,
            run: None,
        }
    }
}

impl Rebuild {
    /// Where to open a capsule's content of at most 64 KiB.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// The room holds an inner packet.
    pub(crate) fn plain(&mut self, arrival: &Arrival<'_>, partial: bool, sink: Sink<'_>) {
        let from = self.filled;
        self.finish(sink);
        let packet = &mut self.buffer[from..from + arrival.length];
        if let Err(reason) = plain(packet, arrival, partial, sink) {
            sink.counters.dropped(reason);
        }
    }

    /// The room holds a segment.
    pub(crate) fn segment(&mut self, arrival: &Arrival<'_>, sink: Sink<'_>) {
        let content = &self.buffer[self.filled..self.filled + arrival.length];
        let template = match Template::parse(content) {
            Ok(template) => template,
            Err(reason) => return sink.counters.dropped(reason),
        };
        let (trailer, payload) = (template.trailer, template.payload.len());
        match &mut self.run {
            Some(run) if run.takes(arrival, &template) => run.trailer = trailer,
            _ => match Run::new(arrival, &template) {
                Err(reason) => return sink.counters.dropped(reason),
                Ok(run) => self.begin(run, payload, sink),
            },
        }
        self.filled += payload;
        if trailer.last {
            self.finish(sink);
        }
    }

    /// Hands over what has been put together so far.
    pub(crate) fn finish(&mut self, sink: Sink<'_>) {
        if let Some(run) = self.run.take() {
            run.write(&self.buffer[..self.filled], sink);
        }
        self.filled = 0;
    }

    /// Finishes the run before; the payload in the room begins another.
    fn begin(&mut self, run: Run, payload: usize, sink: Sink<'_>) {
        let from = self.filled;
        self.finish(sink);
        self.buffer.copy_within(from..from + payload, 0);
        self.run = Some(run);
    }
}

impl Run {
    fn new(arrival: &Arrival<'_>, segment: &Template<'_>) -> Result<Self, Dropped> {
        let length = segment.headers.len();
        let inner = Inner::parse_headers(segment.headers)?;
        let mut run = Self {
            index: arrival.index,
            ecn: arrival.ecn,
            first: segment.trailer.index,
            trailer: segment.trailer,
            template: [0; LONGEST_HEADERS],
            stamped: [0; LONGEST_HEADERS],
        };
        run.template[..length].copy_from_slice(segment.headers);
        run.stamped = run.template;
        let headers = &mut run.stamped[..length];
        stamp(headers, &inner, arrival.addresses, Checksum::Partial);
        ecn::decapsulate(headers, arrival.ecn)?;
        Ok(run)
    }

    fn takes(&self, arrival: &Arrival<'_>, segment: &Template<'_>) -> bool {
        let headers = &self.template[..usize::from(self.trailer.whole.headers)];
        self.index == arrival.index
            && self.ecn == arrival.ecn
            && segment.follows(&self.trailer, headers)
    }

    fn write(&self, payload: &[u8], sink: Sink<'_>) {
        let takes = |packets: &dyn Packets| packets.capability().takes(self.trailer.whole.kind);
        if self.first == self.trailer.index || sink.packets.is_some_and(takes) {
            let slice = Slice {
                first: self.first,
                payload: payload.len(),
                last: self.trailer.last,
            };
            return self.write_slice(&slice, payload, sink);
        }
        let pieces = payload.chunks(usize::from(self.trailer.whole.size));
        for (piece, index) in pieces.zip(self.first..) {
            let slice = Slice {
                first: index,
                payload: piece.len(),
                last: self.trailer.last && index == self.trailer.index,
            };
            self.write_slice(&slice, piece, sink);
        }
    }

    fn write_slice(&self, slice: &Slice, payload: &[u8], sink: Sink<'_>) {
        let whole = &self.trailer.whole;
        let length = usize::from(whole.headers);
        let mut headers = self.stamped;
        let headers = &mut headers[..length];
        whole.narrow(headers, slice);
        if payload.len() > usize::from(whole.size) {
            return sink.write(Left::Segments(*whole), [headers, payload]);
        }
        if sink.finishes_checksums() {
            let left = Left::Checksum {
                start: whole.upper.into(),
                offset: whole.kind.checksum().into(),
            };
            return sink.write(left, [headers, payload]);
        }
        let mut packet = [headers, payload].concat();
        whole.finish(&mut packet);
        sink.write(Left::Nothing, [&packet, &[]]);
    }
}

impl Sink<'_> {
    fn finishes_checksums(&self) -> bool {
        self.packets
            .is_some_and(|packets| packets.capability().takes(Kind::TcpV4))
    }

    fn write(&self, left: Left, pieces: [&[u8]; 2]) {
        match self.packets {
            None => add(&self.counters.no_device),
            Some(packets) => {
                if packets.write(left, pieces).is_err() {
                    add(&self.counters.device_refused);
                }
            }
        }
    }
}

fn plain(
    packet: &mut [u8],
    arrival: &Arrival<'_>,
    partial: bool,
    sink: Sink<'_>,
) -> Result<(), Dropped> {
    let inner = Inner::parse(packet)?;
    let packet = &mut packet[..inner.total];
    let checksum = if partial {
        Checksum::Partial
    } else {
        Checksum::Full
    };
    stamp(packet, &inner, arrival.addresses, checksum);
    ecn::decapsulate(packet, arrival.ecn)?;
    if let Some(mtu) = arrival.mtu {
        clamp::clamp(packet, &inner, usize::from(mtu), checksum);
    }
    let left = match partial {
        true => offload(packet, &inner, sink)?,
        false => Left::Nothing,
    };
    sink.write(left, [packet, &[]]);
    Ok(())
}

/// The rest of a partial checksum: the device's work if it does that, else ours.
fn offload(packet: &mut [u8], inner: &Inner, sink: Sink<'_>) -> Result<Left, Dropped> {
    let at = inner
        .checksum(packet)
        .filter(|_| inner.is_offloadable())
        .ok_or(Dropped::Malformed)?;
    if sink.finishes_checksums() {
        return Ok(Left::Checksum {
            start: inner.upper as u16,
            offset: (at - inner.upper) as u16,
        });
    }
    finish_at(packet, inner.upper, at - inner.upper);
    Ok(Left::Nothing)
}

#[cfg(test)]
mod tests;
