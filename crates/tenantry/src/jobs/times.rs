//! When a schedule is due: a cron expression in a time zone.

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};

use super::Missed;

/// A due time that is older was missed: a worker looks every few seconds.
const LATE: TimeDelta = TimeDelta::seconds(60);

/// When something is due.
#[derive(Clone, Debug)]
pub(super) struct Times {
    cron: Cron,
    zone: Tz,
}

/// How a schedule goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Moved {
    /// Due times up to here are dealt with now.
    pub(super) dealt: Option<DateTime<Utc>>,
    /// The last of them gets a job.
    pub(super) makes_job: bool,
    /// The next one.
    pub(super) next: DateTime<Utc>,
}

impl Times {
    /// Five fields, in the words of the `cron` of old, or `@hourly` and its like; what is wrong with them otherwise.
    pub(super) fn new(cron: &str, zone: &str) -> Result<Self, String> {
        let parser = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build();
        let times = Self {
            cron: parser
                .parse(cron)
                .map_err(|error| format!("`{cron}` is no cron expression of five fields: {error}"))?,
            zone: zone
                .parse()
                .map_err(|_| format!("`{zone}` is no time zone, which is `UTC` or a name like `Europe/Zurich`"))?,
        };
        match times.next(Utc::now()) {
            Some(_) => Ok(times),
            None => Err(format!("`{cron}` is never due")),
        }
    }

    /// The first due time after this.
    ///
    /// An hour that a clock leaves out holds no due time of its own: what names a time in it is due when it ends. In an hour
    /// that is there twice, what names a time is due the first time, and what is due every so often both times.
    pub(super) fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let after = after.trunc_subsecs(0);
        let local = after.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?.with_timezone(&Utc);
        // Time only goes on, whatever the clocks of a zone do.
        (next > after).then_some(next)
    }

    /// What becomes of a schedule whose due times are dealt with up to `dealt_at`, and whose next one is known to be `next_at`, if
    /// it is known. Of several that have passed, the last one stands for all. `None` where there is no due time any more.
    pub(super) fn move_on(
        &self,
        dealt_at: DateTime<Utc>,
        next_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        missed: Missed,
    ) -> Option<Moved> {
        let first = next_at.or_else(|| self.next(dealt_at))?;
        if first > now {
            return Some(Moved {
                dealt: None,
                makes_job: false,
                next: first,
            });
        }
        let last = self.last(first, now);
        Some(Moved {
            dealt: Some(last),
            makes_job: missed == Missed::Once || now - last <= LATE,
            next: self.next(last)?,
        })
    }

    /// The last due time up to `now`, `first` being one. Looked for backwards in ever larger steps, so that neither a year of minutes
    /// nor a minute of a year takes long.
    fn last(&self, first: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let mut window = TimeDelta::minutes(1);
        loop {
            let from = now - window;
            if from <= first {
                return self.walk(first, now);
            }
            if let Some(found) = self.next(from).filter(|found| *found <= now) {
                return self.walk(found, now);
            }
            window = window * 2;
        }
    }

    fn walk(&self, first: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let mut last = first;
        while let Some(next) = self.next(last).filter(|next| *next <= now) {
            last = next;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn times(cron: &str, zone: &str) -> Times {
        Times::new(cron, zone).unwrap()
    }

    fn following(times: &Times, after: &str, count: usize) -> Vec<String> {
        let mut at = time(after);
        let mut all = Vec::new();
        for _ in 0..count {
            at = times.next(at).unwrap();
            all.push(at.format("%Y-%m-%dT%H:%MZ").to_string());
        }
        all
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (cron, zone, word) in [
            ("", "UTC", "no cron expression"),
            ("* * * *", "UTC", "no cron expression"),
            ("0 * * * * *", "UTC", "five fields"),
            ("61 * * * *", "UTC", "no cron expression"),
            ("* * * * * * 2030", "UTC", "five fields"),
            ("0 3 30 2 *", "UTC", "never due"),
            ("0 3 * * *", "Mars/Olympus", "no time zone"),
        ] {
            let told = Times::new(cron, zone).unwrap_err();
            assert!(told.contains(word), "{cron} {zone}: {told}");
        }
        for fine in [
            "*/5 * * * *",
            "0 3 * * mon-fri",
            "@daily",
            "0 0 1 jan *",
            "30 4 1,15 * 5",
        ] {
            times(fine, "Europe/Zurich");
        }
    }

    /// 2026-03-29: 02:00 becomes 03:00 in Zurich.
    #[test]
    fn a_time_that_a_clock_leaves_out_is_due_when_the_gap_ends() {
        let nightly = times("30 2 * * *", "Europe/Zurich");
        assert_eq!(
            following(&nightly, "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30Z", "2026-03-29T01:00Z", "2026-03-30T00:30Z"]
        );
        let quarters = times("*/15 * * * *", "Europe/Zurich");
        assert_eq!(
            following(&quarters, "2026-03-29T00:40:00Z", 3),
            ["2026-03-29T00:45Z", "2026-03-29T01:00Z", "2026-03-29T01:15Z"]
        );
    }

    /// 2026-10-25: 03:00 becomes 02:00 in Zurich.
    #[test]
    fn a_time_that_is_there_twice_is_due_once_and_every_so_often_goes_on() {
        let nightly = times("30 2 * * *", "Europe/Zurich");
        assert_eq!(
            following(&nightly, "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]
        );
        // From within the second one, too.
        assert_eq!(following(&nightly, "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30Z"]);
        let halves = times("*/30 * * * *", "Europe/Zurich");
        assert_eq!(
            following(&halves, "2026-10-24T23:50:00Z", 6),
            [
                "2026-10-25T00:00Z",
                "2026-10-25T00:30Z",
                "2026-10-25T01:00Z",
                "2026-10-25T01:30Z",
                "2026-10-25T02:00Z",
                "2026-10-25T02:30Z"
            ]
        );
    }

    /// Every zone with clocks that change, every half hour over two years: due times only go on, and none is far from the last.
    #[test]
    fn due_times_only_go_on_in_every_zone() {
        for zone in [
            "Europe/Zurich",
            "America/New_York",
            "Australia/Lord_Howe",
            "Africa/Casablanca",
            "America/Santiago",
            "Pacific/Chatham",
            "Asia/Kathmandu",
            "UTC",
        ] {
            let halves = times("*/30 * * * *", zone);
            let daily = times("30 2 * * *", zone);
            let (mut half, mut day) = (time("2026-01-01T00:00:00Z"), time("2026-01-01T00:00:00Z"));
            while half < time("2028-01-01T00:00:00Z") {
                let next = halves.next(half).unwrap_or_else(|| panic!("{zone}: none after {half}"));
                assert!(
                    next > half && next - half <= TimeDelta::minutes(60),
                    "{zone}: {half} {next}"
                );
                half = next;
            }
            let mut days = 0;
            while day < time("2028-01-01T00:00:00Z") {
                let next = daily.next(day).unwrap_or_else(|| panic!("{zone}: none after {day}"));
                assert!(
                    days == 0 || (22..=26).contains(&(next - day).num_hours()),
                    "{zone}: {day} {next}"
                );
                (day, days) = (next, days + 1);
            }
            assert!((730..=731).contains(&days), "{zone}: {days} days");
        }
    }

    #[test]
    fn what_was_missed_becomes_one_job_or_none() {
        let nightly = times("0 3 * * *", "UTC");
        let dealt = time("2026-06-01T03:00:00Z");
        let due = Some(time("2026-06-02T03:00:00Z"));
        let moved = |now: &str, missed| nightly.move_on(dealt, due, time(now), missed).unwrap();
        let early = moved("2026-06-02T02:59:59Z", Missed::Once);
        assert_eq!((early.dealt, early.makes_job, Some(early.next)), (None, false, due));
        for missed in [Missed::Once, Missed::Skip] {
            let on_time = moved("2026-06-02T03:00:01Z", missed);
            assert_eq!((on_time.dealt, on_time.makes_job), (due, true));
            assert_eq!(on_time.next, time("2026-06-03T03:00:00Z"));
            let late = moved("2026-06-05T12:00:00Z", missed);
            assert_eq!(late.dealt, Some(time("2026-06-05T03:00:00Z")), "one stands for four");
            assert_eq!(late.makes_job, missed == Missed::Once);
            assert_eq!(late.next, time("2026-06-06T03:00:00Z"));
        }
        // The first time is not known yet.
        let new = nightly
            .move_on(dealt, None, time("2026-06-01T12:00:00Z"), Missed::Once)
            .unwrap();
        assert_eq!((new.dealt, Some(new.next)), (None, due));
    }

    #[test]
    fn years_of_minutes_are_passed_over_quickly() {
        let minutes = times("* * * * *", "Europe/Zurich");
        let first = time("2016-06-01T03:00:00Z");
        let now = time("2026-06-01T03:00:30Z");
        let begun = std::time::Instant::now();
        let moved = minutes.move_on(first, Some(first), now, Missed::Once).unwrap();
        assert_eq!(moved.dealt, Some(time("2026-06-01T03:00:00Z")));
        assert!(begun.elapsed().as_secs() < 1);
        let leap_days = times("0 0 29 2 *", "UTC");
        let moved = leap_days.move_on(first, None, now, Missed::Once).unwrap();
        assert_eq!(moved.dealt, Some(time("2024-02-29T00:00:00Z")));
        assert_eq!(moved.next, time("2028-02-29T00:00:00Z"));
    }
}
