//! The checker is checked: the product runs without one of its guards, and the promise that the guard keeps must be found
//! broken, by name. What is left out of the programs exists in test builds only; what is left out of the schema is left out of
//! this trial's own database.

use rollcall::{
    ops::children::Stop,
    sim::{ApiFault, CallbackFault, CreateFault, Millis, Rule},
};

use crate::{
    plan::{Act, Plan, Road, Times},
    proxy::{Cut, Weather},
    site::{ALL, Who},
};

/// A guard that is left out, and the promise that breaks.
pub(crate) struct Bug {
    pub(crate) name: &'static str,
    /// What the product does then.
    pub(crate) does: &'static str,
    pub(crate) breaks: &'static str,
    fill: fn(&mut Plan),
}

impl Bug {
    /// The trial that must find it.
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::quiet(self.name, self.does, seed, 9, Times::Scaled);
        plan.patience = std::time::Duration::from_secs(15);
        plan.bounds.clear();
        (self.fill)(&mut plan);
        plan
    }
}

const fn bug(name: &'static str, does: &'static str, breaks: &'static str, fill: fn(&mut Plan)) -> Bug {
    Bug { name, does, breaks, fill }
}

/// Every seeded bug.
pub(crate) const BUGS: &[Bug] = &[
    bug("post-before-intent", "sends before the intent is on the disk", "I1", post_before_intent),
    bug("unknown-requeued", "a POST without a clear answer is dialed again", "I1", unknown_requeued),
    bug("absence-is-proof", "what the carrier does not show yet is dialed again", "I1", absence_is_proof),
    bug("stale-claim-sent", "a claim is sent however old it is", "I1", stale_claim_sent),
    bug("limit-not-counted", "the claim does not count, the gate lets everybody in", "I2", limit_not_counted),
    bug("slot-freed-on-timeout", "a slot is freed half a second after the intent", "I2", slot_freed_on_timeout),
    bug("release-by-count", "an end that is told twice frees two slots", "I2", release_by_count),
    bug("nobody-asks", "no sweep and no reconciler runs", "I3", nobody_asks),
    bug("no-rank-guard", "any event moves an attempt, whatever it is", "I4", no_rank_guard),
    bug("late-2xx-overwrites", "the answer of the POST overwrites the end", "I4", late_2xx_overwrites),
    bug("progress-drifts", "one move in ten does not move the tally", "I5", progress_drifts),
    bug("end-mistaken", "what an end was is written down as busy", "I6", end_mistaken),
    bug("claims-while-paused", "a paused run is claimed from", "I7", claims_while_paused),
    bug("fence-off", "a call that is answered after its cancel is spoken to", "I7", fence_off),
    bug("ack-before-commit", "a callback is acknowledged, then applied", "I8", ack_before_commit),
    bug("key-forgotten", "an idempotency key is forgotten when it is answered", "I9", key_forgotten),
    bug("suppression-not-checked", "a claim does not look at suppressions", "I11", suppression_not_checked),
    bug("dials-not-counted", "a claim does not count how often a number was dialed", "I11", dials_not_counted),
];

/// Leaves a guard out of every replica.
fn without(plan: &mut Plan, guards: &str) {
    plan.terms.settings.push(("BUG", guards.to_owned()));
}

/// Replaces a part of a function of the schema; fails where the function does not say it so often.
fn rewrite(plan: &mut Plan, function: &str, from: &str, to: &str) {
    let (from, to) = (from.replace('\'', "''"), to.replace('\'', "''"));
    plan.broken.push(format!(
        "DO $broken$ DECLARE v text; BEGIN
             SELECT pg_get_functiondef(oid) INTO STRICT v FROM pg_proc WHERE proname = '{function}';
             IF position('{from}' IN v) = 0 THEN RAISE EXCEPTION '{function} does not say: {from}'; END IF;
             EXECUTE replace(v, '{from}', '{to}');
         END $broken$"
    ));
}

/// The answer to a dial makes the attempt placed, whatever was heard of it before.
fn placed_at_any_rank(plan: &mut Plan) {
    rewrite(
        plan,
        "place_attempts",
        "state = CASE WHEN a.rank < 2 THEN",
        "ended_at = NULL, state = CASE WHEN true THEN",
    );
    rewrite(plan, "place_attempts", "AND a.rank < 9", "");
}

/// The trigger that keeps closed attempts as they are lets everything pass.
fn closed_may_change(plan: &mut Plan) {
    rewrite(plan, "attempt_guard", "IF NOT OLD.open AND", "IF false AND NOT OLD.open AND");
}

fn post_before_intent(plan: &mut Plan) {
    plan.broken.push("ALTER DATABASE rollcall SET synchronous_commit = off".to_owned());
    plan.broken.push("ALTER SYSTEM SET wal_writer_delay = '10s'".to_owned());
    // Nor does anybody else write it early.
    plan.broken.push("ALTER SYSTEM SET bgwriter_lru_maxpages = 0".to_owned());
    plan.broken.push("SELECT pg_reload_conf()".to_owned());
    for at in [2.0, 3.5, 5.0, 6.5, 8.0] {
        plan.at(at, Act::PostgresStop(Stop::Quit)).at(at, Act::PostgresStart);
    }
}

fn unknown_requeued(plan: &mut Plan) {
    without(plan, "unknown-requeued");
    plan.at(1.0, Act::Creates(vec![Rule::share(CreateFault::ResetAfterAccept, 0.2)]));
    plan.at(1.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 1.0)]));
}

fn absence_is_proof(plan: &mut Plan) {
    without(plan, "absence-is-proof");
    plan.carrier("--list-lag-ms", "3000");
    plan.at(1.0, Act::Creates(vec![Rule::share(CreateFault::ResetAfterAccept, 0.2)]));
    plan.at(1.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 1.0)]));
}

fn stale_claim_sent(plan: &mut Plan) {
    without(plan, "stale-claim-sent");
    for (n, name) in ["worker-1", "worker-2"].into_iter().enumerate() {
        plan.terms.of_one.push((name, "KILLPOINT", format!("K2:freeze:{}", 2 + n)));
        plan.at(1.0, Act::ThawLate(Who::Worker(n)));
    }
}

fn limit_not_counted(plan: &mut Plan) {
    without(plan, "gate-open");
    plan.broken.push("DROP INDEX attempt_open_slot".to_owned());
    plan.broken.push("DROP INDEX attempt_open_line".to_owned());
    rewrite(plan, "room_on_lines", "RETURN v_max_lines", "RETURN 1000");
    rewrite(plan, "claim_jobs", "least(CASE acct.health", "greatest(1000, CASE acct.health");
    rewrite(plan, "claim_jobs", "slot BETWEEN 1 AND b.max_concurrent_calls AND line BETWEEN 1 AND v_lines", "true");
}

fn slot_freed_on_timeout(plan: &mut Plan) {
    without(plan, "slot-freed-on-timeout");
    plan.carrier("--talk-ms", "2500..4000");
}

fn release_by_count(plan: &mut Plan) {
    rewrite(
        plan,
        "note_unmoved",
        "IF NOT a.open AND a.state <> 'ended' THEN",
        "IF NOT a.open AND p_state = 'ended' THEN
             UPDATE attempt SET state = 'ended', ended_at = v_now, disposition = 'failed' WHERE attempt_id =
                 (SELECT attempt_id FROM attempt WHERE business_id = a.business_id AND open AND rank >= 2 LIMIT 1 FOR UPDATE SKIP LOCKED);
         END IF;
         IF NOT a.open AND a.state <> 'ended' THEN",
    );
    plan.carrier("--talk-ms", "1500..3000");
    plan.at(0.0, Act::Callbacks(vec![Rule::share(CallbackFault::Doubled, 1.0)]));
}

fn nobody_asks(plan: &mut Plan) {
    plan.terms.settings.push(("WORKER_QUEUES", "calls".to_owned()));
    plan.at(0.0, Act::Callbacks(vec![Rule::share(CallbackFault::Lost, 0.3)]));
}

fn no_rank_guard(plan: &mut Plan) {
    rewrite(plan, "apply_events", "AND a.rank < e.rank", "");
    placed_at_any_rank(plan);
    closed_may_change(plan);
    let late = Rule { ms: Some(Millis::between(500, 3_000)), ..Rule::share(CallbackFault::Delayed, 0.3) };
    plan.at(0.0, Act::Callbacks(vec![late]));
}

fn late_2xx_overwrites(plan: &mut Plan) {
    placed_at_any_rank(plan);
    closed_may_change(plan);
    plan.at(0.0, Act::Creates(vec![Rule::share(CreateFault::FinalCallbackFirst, 0.3)]));
}

fn progress_drifts(plan: &mut Plan) {
    plan.broken.push(
        "CREATE FUNCTION drift() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN IF random() < 0.1 THEN NEW.completed := OLD.completed; END IF; RETURN NEW; END $$;
         CREATE TRIGGER drift BEFORE UPDATE ON tally_shard FOR EACH ROW EXECUTE FUNCTION drift()"
            .to_owned(),
    );
}

fn end_mistaken(plan: &mut Plan) {
    rewrite(
        plan,
        "apply_events",
        "THEN 'no_answer' ELSE e.disposition END",
        "THEN 'no_answer' WHEN e.disposition = 'no_answer' THEN 'busy' ELSE e.disposition END",
    );
}

fn claims_while_paused(plan: &mut Plan) {
    rewrite(plan, "claim_jobs", "r.state = 'running'", "r.state IN ('running', 'paused')");
    plan.load.moves = true;
}

fn fence_off(plan: &mut Plan) {
    rewrite(
        plan,
        "apply_events",
        "speak := v_asked.open AND NOT v_asked.hangup_wanted",
        "speak := true OR v_asked.open AND NOT v_asked.hangup_wanted",
    );
    plan.load.moves = true;
    // Short lists, so that what is cancelled is being dialed; calls that ring for longer than a client waits with its cancel, and
    // cannot be hung up.
    plan.load.jobs = 3;
    plan.lasts *= 2;
    plan.carrier("--ring-ms", "1500..3000").carrier("--talk-ms", "200..400");
    plan.at(0.0, Act::HangUps(vec![Rule::share(ApiFault::Unavailable, 1.0)]));
}

fn ack_before_commit(plan: &mut Plan) {
    without(plan, "ack-before-commit");
    for n in 0..16 {
        plan.at(1.0 + f64::from(n) / 2.0, Act::Kill(ALL[n as usize % 2]));
    }
}

fn key_forgotten(plan: &mut Plan) {
    plan.load.moves = true;
    plan.broken.push(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN DELETE FROM idempotency i WHERE i.scope = NEW.scope AND i.key = NEW.key; RETURN NULL; END $$;
         CREATE TRIGGER forget AFTER UPDATE ON idempotency FOR EACH ROW WHEN (NEW.answered_at IS NOT NULL) EXECUTE FUNCTION forget()"
            .to_owned(),
    );
    for at in [0.0, 2.0, 4.0, 6.0] {
        plan.at(at, Act::Weather(Road::Door, Weather { cut: Cut::Deaf, ..Weather::default() }));
        plan.at(at + 0.8, Act::Weather(Road::Door, Weather { cut: Cut::Closed, ..Weather::default() }));
        plan.at(at + 1.0, Act::Weather(Road::Door, Weather::default()));
    }
}

fn suppression_not_checked(plan: &mut Plan) {
    rewrite(plan, "verdict_on", "IF is_suppressed(p_business, p_number) THEN", "IF false THEN");
    // Nor does whoever suppresses take queued jobs away.
    plan.broken.push(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER keep BEFORE UPDATE ON job FOR EACH ROW WHEN (NEW.state = 'skipped') EXECUTE FUNCTION keep()"
            .to_owned(),
    );
    plan.load.moves = true;
}

fn dials_not_counted(plan: &mut Plan) {
    rewrite(plan, "capped_at", ">= p_lifetime", ">= 1000");
    plan.load.moves = true;
    plan.lasts *= 2;
}
