//! What was lost leaves again: RFC 8985 (RACK-TLP) between smoltcp and the tunnel.
//!
//! smoltcp 0.14 makes nothing of selective acknowledgements. It sends one segment again for
//! three duplicate ones and anything else after a second, then two, then four. So its segments
//! are kept here until the peer has them, and from here they leave again; what smoltcp itself
//! sends a second time does not leave.
//!
//! smoltcp's window stays in charge of what is new. It learns of losses as it always does, by
//! three duplicate acknowledgements, once for each time of loss (RFC 6675 section 5); the
//! peer's own are kept from it where they would narrow its window again.
//!
//! SYN, RST and probes of a window that is shut are smoltcp's business.

use ntmobile_tunnel::Left;
use smoltcp::time::Instant;

use crate::heard::Heard;
use crate::patience::{Due, Patience};
use crate::rack::Rack;
use crate::resend::{Said, again, bare};
use crate::scoreboard::{Scoreboard, Segment, before};
use crate::wire::Leaving;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const HEADER: usize = 20;
/// Of a peer without selective acknowledgements, so many duplicates are a loss.
const DUPLICATES: u32 = 3;
/// Segments that leave again when only time has passed.
const UNASKED: usize = 2;

/// A time of loss: until what left before it is acknowledged.
#[derive(Clone, Copy, Debug)]
struct Episode {
    /// The number behind all that had left.
    until: u32,
    /// Some of it was acknowledged, not all.
    partial: bool,
}

/// What smoltcp knows of the peer.
#[derive(Clone, Copy, Debug)]
struct Known {
    acknowledged: u32,
    window: u16,
    /// The header that told it, with the number behind all that the peer has sent.
    head: [u8; HEADER],
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recovery {
    board: Scoreboard,
    patience: Patience,
    rack: Rack,
    known: Option<Known>,
    /// What smoltcp said last: the number that it acknowledges, its window.
    answer: Option<(u32, u16)>,
    /// When the SYN left, and whether it left twice.
    opened: Option<(Instant, bool)>,
    /// The peer acknowledges selectively.
    selective: bool,
    duplicates: u32,
    episode: Option<Episode>,
    /// smoltcp is to be told.
    complains: bool,
    /// When the next segment is lost, as far as one knows.
    expose_at: Option<Instant>,
    /// So many segments may leave again now.
    allowed: usize,
}

impl Recovery {
    pub(crate) fn new() -> Self {
        Self {
            board: Scoreboard::default(),
            patience: Patience::new(),
            rack: Rack::default(),
            known: None,
            answer: None,
            opened: None,
            selective: false,
            duplicates: 0,
            episode: None,
            complains: false,
            expose_at: None,
            allowed: 0,
        }
    }

    /// Hears a TCP segment that arrived, when all that was ever sent comes before `newest`.
    /// True when smoltcp is not to see it.
    pub(crate) fn hear(&mut self, segment: &[u8], newest: u32, now: Instant) -> bool {
        let Some(heard) = Heard::parse(segment) else {
            return false;
        };
        if heard.opens {
            self.selective = heard.permits;
        }
        let Some(number) = heard.acknowledges else {
            return false;
        };
        if let Some((at, false)) = self.opened.take() {
            self.patience.measure(now - at);
        }
        let old = |known: Known| before(number, known.acknowledged);
        if before(newest, number) || self.known.is_some_and(old) {
            return false;
        }
        let duplicate = self.is_duplicate(&heard, number);
        let withheld = duplicate && self.episode.is_none_or(|episode| episode.partial);
        self.learn(&heard, number, duplicate, now);
        self.note(segment, &heard, number);
        withheld
    }

    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.next().is_none_or(|next| now < next) {
            return;
        }
        if self.expose_at.is_some_and(|at| at <= now) {
            self.expose(now);
            self.allowed = self.allowed.max(UNASKED);
        }
        let (due, at) = self.patience.next(self.flying());
        if at > now {
            return;
        }
        self.patience.did(due, now);
        self.allowed = self.allowed.max(1);
        if due == Due::Probe {
            return self.board.lose_last();
        }
        if self.board.is_strange() {
            self.board.distrust();
        }
        self.board.lose_first();
        self.begin();
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.board.is_empty() || self.is_shut() {
            return None;
        }
        let (_, at) = self.patience.next(self.flying());
        Some(self.expose_at.map_or(at, |expose_at| expose_at.min(at)))
    }

    /// How to tell smoltcp of a loss that it does not know of yet: a header, and the number
    /// that is acknowledged once more.
    pub(crate) fn complaint(&mut self) -> Option<([u8; HEADER], u32)> {
        let known = self.known.filter(|_| self.complains)?;
        self.complains = false;
        Some((known.head, known.acknowledged))
    }

    /// What leaves when smoltcp sends `packets`; a segment that leaves again has at most `most`
    /// bytes.
    pub(crate) fn leave(&mut self, packets: Vec<Leaving>, most: u32, now: Instant) -> Vec<Leaving> {
        let pass = |packet| self.pass(packet, now);
        let mut leaving: Vec<_> = packets.into_iter().filter_map(pass).collect();
        let allowed = std::mem::take(&mut self.allowed);
        for _ in 0..allowed {
            let (Some(answer), Some(segment)) = (self.answer, self.board.send_again(most, now))
            else {
                break;
            };
            let range = [segment.start, segment.end];
            leaving.extend(again(&segment.packet, range, answer));
            self.patience.sent(now);
        }
        leaving
    }

    /// A packet of smoltcp's: kept until the peer has it, and none when that is known already.
    fn pass(&mut self, packet: Leaving, now: Instant) -> Option<Leaving> {
        let Some(said) = Said::parse(&packet.bytes).filter(|said| said.flags & RST == 0) else {
            return Some(packet);
        };
        if said.flags & SYN != 0 {
            self.opened = Some((now, self.opened.is_some()));
            return Some(packet);
        }
        let news = self.answer.replace(said.answer) != Some(said.answer);
        let [start, end] = said.range;
        let acknowledged = |known: Known| !before(known.acknowledged, end);
        if start == end || self.is_shut() || self.known.is_some_and(acknowledged) {
            return Some(packet);
        }
        let [front, reach] = self.board.range().unwrap_or([start; 2]);
        if before(start, front) || before(reach, start) {
            // Not all that left while the window seemed to be shut is kept; smoltcp knows it.
            return Some(packet);
        }
        if !before(reach, end) {
            return bare(&packet.bytes, reach).filter(|_| news);
        }
        if before(start, reach) {
            self.board.left_again([start, reach], now);
        }
        let size = match packet.left {
            Left::Segments(whole) => u32::from(whole.size),
            _ => u32::MAX,
        };
        let fin = said.flags & FIN != 0;
        let segment = Segment::new(&packet.bytes, [reach, end], fin, now);
        self.board.add(segment, size);
        self.patience.sent(now);
        Some(packet)
    }

    /// Nothing but what was said already, about something that is missing. A probe of the
    /// peer's, which has an old number, is not that: it wants an answer.
    fn is_duplicate(&self, heard: &Heard, number: u32) -> bool {
        let same = |known: Known| known.acknowledged == number && known.window == heard.window;
        let probes = |answer: (u32, u16)| before(heard.number, answer.0);
        heard.is_empty()
            && !self.board.is_empty()
            && self.known.is_some_and(same)
            && !self.answer.is_some_and(probes)
    }

    /// What arrived, and what therefore did not.
    fn learn(&mut self, heard: &Heard, number: u32, duplicate: bool, now: Instant) {
        let advances = self
            .known
            .is_some_and(|known| before(known.acknowledged, number));
        let least = self.patience.least();
        let (board, rack) = (&mut self.board, &mut self.rack);
        rack.begin();
        board.acknowledge(number, |segment| rack.see(segment, least, now));
        for block in &heard.blocks {
            if before(block[0], number) {
                // RFC 2883: it has got that twice.
                rack.doubt();
            } else {
                board.arrive(*block, |segment| rack.see(segment, least, now));
            }
        }
        let (count, sample) = rack.news();
        if let Some(sent) = sample {
            self.patience.measure(now - sent);
        }
        if count > 0 || advances {
            self.patience.answered(now);
        }
        self.advance(number, advances);
        if self.selective {
            self.expose(now);
        } else {
            self.guess(duplicate, advances);
        }
        self.allowed = count + 1;
    }

    /// A time of loss ends when all is acknowledged that left before it.
    fn advance(&mut self, number: u32, advances: bool) {
        let Some(episode) = &mut self.episode else {
            return;
        };
        episode.partial |= advances;
        if !before(number, episode.until) {
            self.episode = None;
            self.rack.settle();
        }
    }

    /// Finds what is lost by what arrived that left later.
    fn expose(&mut self, now: Instant) {
        let there = self.board.there();
        let trips = [self.patience.least(), self.patience.smoothed()];
        let verdict = self.rack.verdict(there, self.episode.is_some(), trips);
        self.expose_at =
            verdict.and_then(|(latest, patience)| self.board.expose(latest, patience, now));
        self.begin();
    }

    /// The same without selective acknowledgements: RFC 6582.
    fn guess(&mut self, duplicate: bool, advances: bool) {
        if advances {
            self.duplicates = 0;
        }
        self.duplicates += u32::from(duplicate);
        if self.duplicates == DUPLICATES || (advances && self.episode.is_some()) {
            self.board.lose_first();
            self.begin();
        }
    }

    fn begin(&mut self) {
        let (None, Some([_, until])) = (self.episode, self.board.range()) else {
            return;
        };
        if self.board.lost() > 0 {
            let partial = false;
            self.episode = Some(Episode { until, partial });
            self.complains = true;
        }
    }

    fn note(&mut self, segment: &[u8], heard: &Heard, number: u32) {
        let Some(head) = segment.first_chunk::<HEADER>() else {
            return;
        };
        let told = self.known.map(|known| known.head[4..8].try_into());
        let told = told.and_then(Result::ok).map(u32::from_be_bytes);
        let end = match told {
            Some(told) if before(heard.end, told) => told,
            _ => heard.end,
        };
        let mut head = *head;
        head[4..8].copy_from_slice(&end.to_be_bytes());
        self.known = Some(Known {
            acknowledged: number,
            window: heard.window,
            head,
        });
    }

    fn flying(&self) -> usize {
        self.board.len() - self.board.there()
    }

    fn is_shut(&self) -> bool {
        self.known.is_some_and(|known| known.window == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: u8 = 0x10;
    const ANSWER: (u32, u16) = (1, 1000);

    /// An IPv4 packet with ten bytes from `number` on.
    fn data(number: u32) -> Leaving {
        let mut bytes = vec![0; 50];
        bytes[..12].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, 6, 0, 0]);
        bytes[12..20].copy_from_slice(&[100, 64, 0, 1, 100, 64, 0, 2]);
        bytes[24..28].copy_from_slice(&number.to_be_bytes());
        bytes[28..32].copy_from_slice(&ANSWER.0.to_be_bytes());
        bytes[32..34].copy_from_slice(&[5 << 4, ACK]);
        bytes[34..36].copy_from_slice(&ANSWER.1.to_be_bytes());
        Leaving::new(bytes, Left::Nothing)
    }

    /// A segment of the peer's that acknowledges `number`.
    fn answer(number: u32, window: u16) -> Vec<u8> {
        let mut segment = vec![0; HEADER];
        segment[8..12].copy_from_slice(&number.to_be_bytes());
        segment[12..14].copy_from_slice(&[5 << 4, ACK]);
        segment[14..].copy_from_slice(&[(window >> 8) as u8, window as u8, 0, 0, 0, 0]);
        segment
    }

    /// The numbers at which what leaves begins and ends.
    fn leave(recovery: &mut Recovery, number: u32) -> Vec<[u32; 2]> {
        let leaving = recovery.leave(vec![data(number)], 1000, Instant::ZERO);
        let range = |packet: &Leaving| Said::parse(&packet.bytes).expect("a segment").range;
        leaving.iter().map(range).collect()
    }

    #[test]
    fn what_is_kept_does_not_leave_by_smoltcp_a_second_time() {
        let mut recovery = Recovery::new();
        recovery.hear(&answer(0, 9), 0, Instant::ZERO);

        assert_eq!(leave(&mut recovery, 0), [[0, 10]]);
        assert_eq!(leave(&mut recovery, 0), Vec::<[u32; 2]>::new());
    }

    #[test]
    fn what_is_not_kept_leaves_whenever_smoltcp_says_so() {
        let mut recovery = Recovery::new();
        recovery.hear(&answer(0, 0), 0, Instant::ZERO);
        assert_eq!(leave(&mut recovery, 0), [[0, 10]]);
        recovery.hear(&answer(0, 9), 10, Instant::ZERO);
        assert_eq!(leave(&mut recovery, 10), [[10, 20]]);
        assert_eq!(
            leave(&mut recovery, 30),
            [[30, 40]],
            "20 to 30 is smoltcp's"
        );

        assert_eq!(leave(&mut recovery, 0), [[0, 10]]);
        assert_eq!(leave(&mut recovery, 30), [[30, 40]]);
        assert_eq!(leave(&mut recovery, 10), Vec::<[u32; 2]>::new());
    }
}
