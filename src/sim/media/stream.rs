//! One stream: frames out every 20 ms, what comes back into the far end's ear.
use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{SinkExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::Message;

use super::{
    Conversation, End, FRAME, FRAME_MS, STUCK, Socket,
    callee::{Act, Notice, Person, foreign_tags, tag},
    figures::Lapse,
    frames::{Dialect, Said},
    playout::Playout,
};
use crate::sim::{
    Shared,
    call::CallId,
    clock::Stamp,
    sound::{Ear, Heard},
};

/// One side of a conversation, and the socket's other side.
pub(super) struct Stream {
    shared: Arc<Shared>,
    id: CallId,
    dialect: Dialect,
    person: Person,
    playout: Playout,
    ear: Ear,
    report: Conversation,
    sequence: u64,
    chunk: u64,
    opened: Instant,
    /// Where a frame's sound is decoded, and its base64 written.
    bytes: Vec<u8>,
    base64: String,
    /// When sound last arrived, and how long it was to last.
    arrived: Option<(Instant, Duration)>,
    lapses: Vec<Lapse>,
    /// The callee has finished a line and waits for the first sound.
    asked: Option<Instant>,
    /// The callee began to speak into the agent's words, which have not stopped yet.
    interrupted: Option<Instant>,
    /// When the agent's sound ran out in the middle of this sentence.
    ran_out: Option<(Instant, u32)>,
    was_voice: bool,
    /// When the agent's present sentence began.
    began: (Option<u32>, std::time::Instant),
    has_complained: bool,
    /// A frame that goes after the next one.
    held: Option<String>,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: CallId, dialect: Dialect, person: Person) -> Self {
        let report = Conversation { stream: dialect.stream().to_owned(), tag: tag(id.0), ..Conversation::default() };
        Self {
            shared,
            id,
            dialect,
            person,
            playout: Playout::default(),
            ear: Ear::default(),
            report,
            sequence: 0,
            chunk: 0,
            opened: Instant::now(),
            bytes: Vec::new(),
            base64: String::with_capacity(FRAME.div_ceil(3) * 4),
            arrived: None,
            lapses: Vec::with_capacity(Lapse::BATCH),
            asked: None,
            interrupted: None,
            ran_out: None,
            was_voice: false,
            began: (None, std::time::Instant::now()),
            has_complained: false,
            held: None,
        }
    }

    /// Runs until the far end hangs up or the socket is gone.
    pub(super) async fn run(&mut self, socket: &mut Socket) -> End {
        let sequence = self.next();
        for message in [self.dialect.connected(), self.dialect.start(sequence)] {
            if let Err(end) = send(socket, Message::text(message)).await {
                return end;
            }
        }
        let mut ticks = interval_at(Instant::now(), Duration::from_millis(FRAME_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            let ended = tokio::select! {
                biased;
                due = ticks.tick() => self.tick(due, socket).await,
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => self.hear(&text, socket).await,
                    Some(Ok(Message::Binary(_))) => self.complain("31950: a binary frame", socket).await,
                    Some(Ok(Message::Close(frame))) => Err(End::Closed(frame.map(|frame| frame.code.into()))),
                    Some(Ok(_)) => Ok(()),
                    // Gone without a word, as a server that has died.
                    Some(Err(_)) | None => Err(End::Closed(Some(1006))),
                },
            };
            if let Err(end) = ended {
                return end;
            }
        }
    }

    /// 20 ms of the call: plays, lets the callee live, and sends what it says.
    async fn tick(&mut self, due: Instant, socket: &mut Socket) -> Result<(), End> {
        let mut frame = [0_u8; FRAME];
        let played = self.playout.play(&mut frame);
        let heard = self.ear.listen(&frame[..played]);
        self.note(heard);
        self.return_marks(socket).await?;
        self.observe(due, played > 0);
        let words = self.ear.present().map_or(0, |(_, words)| words.len());
        let was_speaking = self.person.is_speaking();
        let act = self.person.live(Notice { voice: played > 0, words }, &mut frame);
        if was_speaking && !self.person.is_speaking() {
            self.asked = Some(due);
        }
        self.base64.clear();
        STANDARD.encode_string(frame, &mut self.base64);
        self.chunk += 1;
        let sequence = self.next();
        let media = self.dialect.media(sequence, self.chunk, (self.chunk - 1) * FRAME_MS, &self.base64);
        let held = self.held.take();
        if held.is_none() && self.strays() {
            self.held = Some(media);
        } else {
            send(socket, Message::text(media)).await?;
        }
        if let Some(held) = held {
            send(socket, Message::text(held)).await?;
        }
        match act {
            Act::Nothing => Ok(()),
            Act::Begins(interrupts) => {
                self.report.interruptions += u32::from(interrupts);
                self.interrupted = interrupts.then_some(due);
                Ok(())
            }
            Act::Presses(digits) => {
                for digit in digits.chars() {
                    let sequence = self.next();
                    let message = self.dialect.dtmf(sequence, digit, &Stamp::now().rfc3339());
                    send(socket, Message::text(message)).await?;
                }
                Ok(())
            }
            Act::HangsUp => Err(End::HungUp),
        }
    }

    /// Keeps what the figures are made of: when the agent begins, stops, and runs out of sound.
    fn observe(&mut self, now: Instant, voice: bool) {
        let sentence = self.ear.present().map(|(number, _)| number);
        if sentence.is_some() && sentence != self.began.0 {
            self.began = (sentence, std::time::Instant::now());
        }
        match (voice, self.was_voice) {
            (true, false) => {
                if self.report.first_sound_ms.is_none() {
                    let first = now.saturating_duration_since(self.opened);
                    self.report.first_sound_ms = u64::try_from(first.as_millis()).ok();
                    self.lapses.push(Lapse::FirstSound(first));
                }
                match self.ran_out.take() {
                    Some((since, before)) if sentence == Some(before) => {
                        self.lapses.push(Lapse::RanOut(now.saturating_duration_since(since)));
                    }
                    _ => self.report.turns += 1,
                }
                if let Some(asked) = self.asked.take() {
                    self.lapses.push(Lapse::Answer(now.saturating_duration_since(asked)));
                }
            }
            (false, true) => {
                if let Some(since) = self.interrupted.take() {
                    self.lapses.push(Lapse::Clear(now.saturating_duration_since(since)));
                }
                self.ran_out = sentence.map(|number| (now, number));
            }
            _ => {}
        }
        self.was_voice = voice;
        if self.lapses.len() + 4 > Lapse::BATCH {
            self.shared.media().keep(&mut self.lapses);
        }
    }

    /// Takes a message of the server.
    async fn hear(&mut self, text: &str, socket: &mut Socket) -> Result<(), End> {
        match self.dialect.read(text) {
            Ok(Said::Media(payload)) => {
                self.report.frames.1 += 1;
                self.bytes.clear();
                if STANDARD.decode_vec(payload.as_bytes(), &mut self.bytes).is_err() {
                    return self.complain("a payload is not base64", socket).await;
                }
                let now = Instant::now();
                if let Some((before, length)) = self.arrived.filter(|_| self.playout.waiting() > 0) {
                    let gap = now.saturating_duration_since(before);
                    self.lapses.push(Lapse::Jitter(gap.abs_diff(length)));
                }
                let ms = u64::try_from(self.bytes.len() / 8).unwrap_or(u64::MAX);
                self.arrived = Some((now, Duration::from_millis(ms)));
                if !self.playout.add(&self.bytes) {
                    return self.complain("31931: more than ten minutes of sound wait", socket).await;
                }
            }
            Ok(Said::Mark(name)) => self.playout.mark(name.into_owned()),
            Ok(Said::Clear) => {
                self.report.clears += 1;
                self.playout.clear();
                self.ran_out = None;
                let cut = self.ear.cut();
                self.note(cut);
            }
            Err(why) => return self.complain(&why, socket).await,
        }
        // A mark with nothing before it comes back at once, and so does every mark that a clear has overtaken.
        self.return_marks(socket).await?;
        if self.lapses.len() + 4 > Lapse::BATCH {
            self.shared.media().keep(&mut self.lapses);
        }
        Ok(())
    }

    /// True for a frame that is to come after the next one.
    fn strays(&self) -> bool {
        let share = self.shared.config.manners.reordered;
        share > 0.0
            && self.dialect.may_reorder()
            && rand::RngExt::random::<f64>(&mut self.shared.world().random) < share
    }

    async fn return_marks(&mut self, socket: &mut Socket) -> Result<(), End> {
        while let Some(name) = self.playout.reached() {
            self.report.marks += 1;
            let sequence = self.next();
            let mark = self.dialect.mark(sequence, &name);
            send(socket, Message::text(mark)).await?;
        }
        Ok(())
    }

    /// Notes what was wrong, once in a stream, and tells the server where the carrier does.
    async fn complain(&mut self, why: &str, socket: &mut Socket) -> Result<(), End> {
        if !std::mem::replace(&mut self.has_complained, true) {
            self.shared.note(self.id, format!("{}: {why}", self.dialect.malformed()));
            self.shared.media().malformed();
        }
        match self.dialect.complaint(why) {
            Some(message) => send(socket, Message::text(message)).await,
            None => Ok(()),
        }
    }

    fn note(&mut self, heard: impl IntoIterator<Item = Heard>) {
        for heard in heard {
            self.report.foreign.extend(foreign_tags(&heard.text, &self.report.tag).map(str::to_owned));
            if heard.whole && self.began.0 == Some(heard.utterance) {
                self.shared.said_to(self.id, self.began.1, &heard.text);
            }
            self.report.heard.push(heard);
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The message that ends the stream.
    pub(super) fn stop(&mut self) -> Message {
        let sequence = self.next();
        Message::text(self.dialect.stop(sequence))
    }

    /// Hands in what was said and heard.
    pub(super) fn close(mut self, end: &End) {
        let rest = self.ear.cut();
        self.note(rest);
        self.report.frames.0 = self.chunk;
        self.report.said = std::mem::take(&mut self.person.said);
        self.report.end = match end {
            End::Closed(Some(code)) => format!("closed by the server with {code}"),
            End::Closed(None) => "closed by the server".to_owned(),
            End::HungUp => "the callee hung up".to_owned(),
            End::Moved => "the call moved on".to_owned(),
            End::Broken(why) => format!("broken: {why}"),
        };
        let mut media = self.shared.media();
        media.keep(&mut self.lapses);
        media.add(&self.report);
        drop(media);
        let mut world = self.shared.world();
        let call = world.call_mut(self.id);
        call.heard.extend(self.report.heard.iter().map(|heard| heard.text.clone()));
        call.conversations.push(self.report);
    }
}

async fn send(socket: &mut Socket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(STUCK, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Closed(Some(1006))),
        Err(_) => Err(End::Broken("31930: the server did not read for 5 s".to_owned())),
    }
}
