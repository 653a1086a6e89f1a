//! Super-packets put together again from the segments that arrive, across
//! batches and across receive calls, until the socket is empty.

use std::net::IpAddr;
use std::ops::Range;

use ntmobile_capsule::{
    Addresses, Checksum, Dropped, Inner, Kind, Row, Single, Slice, Super, Template, Trailer, clamp,
    ecn, finish_at, stamp_routed,
};

use crate::counters::{Counters, add};
use crate::packets::{Left, Packets};
use crate::view::View;

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
    /// Who else is there, and what lies beyond.
    pub view: &'a View,
    /// The path's size, if there is a path.
    pub mtu: Option<u16>,
    /// ECN bits of the outer header.
    pub ecn: u8,
    pub length: usize,
    /// Other capsules came with it and are yet to be opened.
    pub more: bool,
}

impl Arrival<'_> {
    /// Stamps the packet, or its headers, if the peer may send such a one.
    fn stamp(&self, packet: &mut [u8], inner: &Inner, checksum: Checksum) -> Result<(), Dropped> {
        let is_peer = |host: &IpAddr| self.view.destinations.contains_key(host);
        let networks = &self.view.networks;
        let stamps = networks.judge(packet, inner, self.addresses, is_peer)?;
        stamp_routed(packet, inner, &stamps.packet, &stamps.quoted, checksum);
        Ok(())
    }
}

/// Where finished packets go.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub packets: Option<&'a dyn Packets>,
    pub counters: &'a Counters,
}

/// A super-packet in the making; its payload fills the buffer.
struct Run {
    index: u32,
    ecn: u8,
    stamped: [u8; LONGEST_HEADERS],
    parts: Parts,
}

/// What it is made of.
enum Parts {
    /// Consecutive segments of one super-packet of the other end's.
    Segments {
        first: u16,
        trailer: Trailer,
        template: [u8; LONGEST_HEADERS],
    },
    /// Packets that the other end had one by one.
    Singles(Row),
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

    /// Something waits for more, or for [`Rebuild::finish`].
    pub(crate) fn has_begun(&self) -> bool {
        self.run.is_some()
    }

    /// The room holds an inner packet.
    pub(crate) fn plain(&mut self, arrival: &Arrival<'_>, partial: bool, sink: Sink<'_>) {
        let from = self.filled;
        let packet = &mut self.buffer[from..from + arrival.length];
        let inner = match Inner::parse(packet) {
            Ok(inner) => inner,
            Err(reason) => return sink.counters.dropped(reason),
        };
        let checksum = if partial {
            Checksum::Partial
        } else {
            Checksum::Full
        };
        // A packet that comes alone has no neighbours, and is not searched for any.
        let neighbours = self.run.is_some() || arrival.more;
        let single = neighbours
            .then(|| Single::new(packet, &inner, checksum))
            .flatten()
            .filter(|single| sink.cuts(single.whole().kind));
        if let Some(single) = single {
            return self.single(arrival, &inner, &single, sink);
        }
        self.finish(sink);
        let packet = &mut self.buffer[from..from + inner.total];
        if let Err(reason) = plain(packet, &inner, arrival, checksum, sink) {
            sink.counters.dropped(reason);
        }
    }

    /// The room holds `single`.
    fn single(&mut self, arrival: &Arrival<'_>, inner: &Inner, single: &Single, sink: Sink<'_>) {
        let from = self.filled;
        let packet = &self.buffer[from..from + inner.total];
        let payload = from + single.payload().start..from + single.payload().end;
        let taken = self
            .run
            .as_mut()
            .is_some_and(|run| run.takes_single(arrival, single, packet));
        if taken {
            self.buffer.copy_within(payload.clone(), from);
        } else {
            match Run::of_single(arrival, inner, single, packet) {
                Err(reason) => return sink.counters.dropped(reason),
                Ok(run) => self.begin(run, payload.clone(), sink),
            }
        }
        self.filled += payload.len();
        if self.run.as_ref().is_some_and(Run::is_complete) {
            self.finish(sink);
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
        let taken = self
            .run
            .as_mut()
            .is_some_and(|run| run.takes(arrival, &template));
        if !taken {
            match Run::of_segment(arrival, &template) {
                Err(reason) => return sink.counters.dropped(reason),
                Ok(run) => self.begin(run, self.filled..self.filled + payload, sink),
            }
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

    /// Finishes the run before; what lies at `payload` begins another.
    fn begin(&mut self, run: Run, payload: Range<usize>, sink: Sink<'_>) {
        self.finish(sink);
        self.buffer.copy_within(payload, 0);
        self.run = Some(run);
    }
}

impl Run {
    fn of_segment(arrival: &Arrival<'_>, segment: &Template<'_>) -> Result<Self, Dropped> {
        let inner = Inner::parse_headers(segment.headers)?;
        let parts = Parts::Segments {
            first: segment.trailer.index,
            trailer: segment.trailer,
            template: padded(segment.headers),
        };
        Self::new(arrival, &inner, segment.headers, parts)
    }

    fn of_single(
        arrival: &Arrival<'_>,
        inner: &Inner,
        single: &Single,
        packet: &[u8],
    ) -> Result<Self, Dropped> {
        let headers = &packet[..single.payload().start];
        let parts = Parts::Singles(Row::new(single, packet));
        Self::new(arrival, inner, headers, parts)
    }

    fn new(
        arrival: &Arrival<'_>,
        inner: &Inner,
        headers: &[u8],
        parts: Parts,
    ) -> Result<Self, Dropped> {
        let mut stamped = padded(headers);
        let headers = &mut stamped[..headers.len()];
        // Whatever the checksum is, narrowing writes it anew.
        arrival.stamp(headers, inner, Checksum::Partial)?;
        ecn::decapsulate(headers, arrival.ecn)?;
        Ok(Self {
            index: arrival.index,
            ecn: arrival.ecn,
            stamped,
            parts,
        })
    }

    /// Adds `segment` if it comes right behind.
    fn takes(&mut self, arrival: &Arrival<'_>, segment: &Template<'_>) -> bool {
        let same = self.comes_as(arrival);
        match &mut self.parts {
            Parts::Segments {
                trailer, template, ..
            } if same => {
                let headers = &template[..usize::from(trailer.whole.headers)];
                let follows = segment.follows(trailer, headers);
                if follows {
                    *trailer = segment.trailer;
                }
                follows
            }
            _ => false,
        }
    }

    /// Adds `single`, which is `packet`, if it comes right behind.
    fn takes_single(&mut self, arrival: &Arrival<'_>, single: &Single, packet: &[u8]) -> bool {
        let same = self.comes_as(arrival);
        match &mut self.parts {
            Parts::Singles(row) => same && row.takes(single, packet),
            Parts::Segments { .. } => false,
        }
    }

    fn comes_as(&self, arrival: &Arrival<'_>) -> bool {
        self.index == arrival.index && self.ecn == arrival.ecn
    }

    fn is_complete(&self) -> bool {
        match &self.parts {
            Parts::Segments { trailer, .. } => trailer.last,
            Parts::Singles(row) => row.is_complete(),
        }
    }

    fn write(&self, payload: &[u8], sink: Sink<'_>) {
        match &self.parts {
            Parts::Singles(row) => {
                let mut run = self.stamped;
                row.close(&mut run);
                let slice = Slice {
                    first: 0,
                    payload: payload.len(),
                    last: true,
                };
                write_slice(&row.whole(), run, &slice, payload, sink);
            }
            Parts::Segments { first, trailer, .. } => {
                self.write_segments(*first, trailer, payload, sink);
            }
        }
    }

    fn write_segments(&self, first: u16, trailer: &Trailer, payload: &[u8], sink: Sink<'_>) {
        let whole = &trailer.whole;
        let pieces = if sink.cuts(whole.kind) {
            payload.len()
        } else {
            usize::from(whole.size)
        };
        let mut left = payload.len();
        for (piece, index) in payload.chunks(pieces).zip(first..) {
            left -= piece.len();
            let slice = Slice {
                first: index,
                payload: piece.len(),
                last: trailer.last && left == 0,
            };
            write_slice(whole, self.stamped, &slice, piece, sink);
        }
    }
}

/// Hands over `payload` behind the headers `stamped`, narrowed to `slice`.
fn write_slice(
    whole: &Super,
    mut stamped: [u8; LONGEST_HEADERS],
    slice: &Slice,
    payload: &[u8],
    sink: Sink<'_>,
) {
    let headers = &mut stamped[..usize::from(whole.headers)];
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

fn padded(headers: &[u8]) -> [u8; LONGEST_HEADERS] {
    let mut all = [0; LONGEST_HEADERS];
    all[..headers.len()].copy_from_slice(headers);
    all
}

impl Sink<'_> {
    fn finishes_checksums(&self) -> bool {
        self.cuts(Kind::TcpV4)
    }

    fn cuts(&self, kind: Kind) -> bool {
        self.packets
            .is_some_and(|packets| packets.capability().takes(kind))
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

/// Hands over a packet that makes no super-packet.
fn plain(
    packet: &mut [u8],
    inner: &Inner,
    arrival: &Arrival<'_>,
    checksum: Checksum,
    sink: Sink<'_>,
) -> Result<(), Dropped> {
    arrival.stamp(packet, inner, checksum)?;
    ecn::decapsulate(packet, arrival.ecn)?;
    if let Some(mtu) = arrival.mtu {
        clamp::clamp(packet, inner, usize::from(mtu), checksum);
    }
    let left = match checksum {
        Checksum::Partial => offload(packet, inner, sink)?,
        Checksum::Full => Left::Nothing,
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
mod singles_tests;
#[cfg(test)]
mod tests;
