use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
};

use converge::{Change, Known};
use serde_json::{Value, json};

use super::*;

/// Things that are put on a shelf one by one. What goes wrong comes from a list: the next entry is for the next call.
#[derive(Default)]
struct Shelf {
    wanted: Vec<&'static str>,
    live: RefCell<Vec<&'static str>>,
    observing: RefCell<VecDeque<Option<Trouble>>>,
    applying: RefCell<VecDeque<Option<Trouble>>>,
    /// Somebody else takes off what is put on.
    is_emptied: bool,
    /// What its label says is somebody else's to decide.
    is_labelled: bool,
    looks: Cell<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{self:?}")]
enum Trouble {
    MadeInVain,
    Broken,
    NotThereYet,
    ChangedMeanwhile,
}

use Trouble::{Broken, ChangedMeanwhile, MadeInVain, NotThereYet};

impl Explain for Trouble {
    fn explain(&self) -> Explanation {
        match self {
            MadeInVain => Explanation::new("MADE_IN_VAIN").made(),
            Broken => Explanation::new("BROKEN"),
            NotThereYet => Explanation::new("NOT_THERE_YET").prerequisite(),
            ChangedMeanwhile => Explanation::new("CHANGED_MEANWHILE").conflict(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Put(&'static str);

impl fmt::Display for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "put {} on the shelf", self.0)
    }
}

impl Change for Put {
    fn object(&self) -> String {
        format!("thing {}", self.0)
    }

    fn before(&self) -> Value {
        Value::Null
    }

    fn after(&self) -> Value {
        json!({"size": 1, "name": self.0})
    }
}

impl Section for Shelf {
    const NAME: &'static str = "shelf";
    type Live = Vec<&'static str>;
    type Change = Put;

    async fn observe(&self) -> Result<Self::Live, Failure> {
        self.looks.set(self.looks.get() + 1);
        next(&self.observing)?;
        Ok(self.live.borrow().clone())
    }

    fn plan(&self, live: &Self::Live) -> Result<Vec<Put>, Failure> {
        Ok(self.wanted.iter().filter(|thing| !live.contains(thing)).map(|thing| Put(thing)).collect())
    }

    fn foresee(&self) -> Vec<Foreseen> {
        let label = || Foreseen {
            line: "label the shelf".into(),
            object: "shelf".into(),
            before: Value::Null,
            after: json!({"label": "that of the house"}),
        };
        self.is_labelled.then(label).into_iter().collect()
    }

    async fn apply(&self, change: &Put) -> Result<(), Failure> {
        let outcome = next(&self.applying);
        let made = outcome.as_ref().err().is_none_or(|failure| failure.is_made);
        if made && !self.is_emptied {
            self.live.borrow_mut().push(change.0);
        }
        outcome
    }
}

fn next(troubles: &RefCell<VecDeque<Option<Trouble>>>) -> Result<(), Failure> {
    troubles.borrow_mut().pop_front().flatten().map_or(Ok(()), |trouble| Err(trouble.into()))
}

fn shelf(wanted: &[&'static str], live: &[&'static str]) -> Shelf {
    Shelf { wanted: wanted.to_vec(), live: RefCell::new(live.to_vec()), ..Shelf::default() }
}

async fn answer_of(run: &mut Run) -> Result<Option<&'static str>, Failure> {
    run.verify(async { Ok("fine") }).await
}

#[tokio::test]
async fn what_is_missing_is_put_there_and_looked_at_again() {
    let shelf = shelf(&["book", "clock"], &["clock", "vase"]);
    let mut run = Run::new(false);
    let converged = run.section(&shelf).await.unwrap();
    assert_eq!((converged.changes, converged.live), (vec![Put("book")], Some(vec!["clock", "vase", "book"])));
    assert_eq!((shelf.live.take(), shelf.looks.get()), (vec!["clock", "vase", "book"], 2));
    assert_eq!(answer_of(&mut run).await, Ok(Some("fine")));
    assert_eq!(run.report.success(None, true)["diff"][0]["after"], "name: book\nsize: 1\n");
}

#[tokio::test]
async fn what_is_made_in_vain_counts_and_is_looked_at_again() {
    let shelf = shelf(&["book", "clock"], &[]);
    *shelf.applying.borrow_mut() = [Some(MadeInVain), Some(Broken)].into();
    let mut run = Run::new(false);
    assert_eq!(run.section(&shelf).await.unwrap_err().code, "BROKEN");
    assert_eq!((shelf.live.take(), shelf.looks.get()), (vec!["book"], 2));
    assert_eq!(run.report.success(None, true)["changed"], true);
}

#[tokio::test]
async fn where_nothing_is_missing_one_look_is_enough() {
    let shelf = shelf(&["book"], &["book"]);
    let mut run = Run::new(false);
    let converged = run.section(&shelf).await.unwrap();
    assert_eq!((converged.changes, converged.live), (vec![], Some(vec!["book"])));
    assert_eq!(shelf.looks.get(), 1);
    assert_eq!(run.report.success(None, false)["changed"], false);
}

#[tokio::test]
async fn check_mode_says_the_same_and_touches_nothing() {
    let mut reports = [true, false].map(|check| (Run::new(check), shelf(&["book", "clock"], &["vase"])));
    for (run, shelf) in &mut reports {
        run.section(shelf).await.unwrap();
    }
    let [(planned, untouched), (done, _)] = &reports;
    assert_eq!(*untouched.live.borrow(), ["vase"]);
    assert_eq!(planned.report.changes, ["put book on the shelf", "put clock on the shelf"]);
    assert_eq!((&planned.report.changes, &planned.report.diff), (&done.report.changes, &done.report.diff));
}

#[tokio::test]
async fn check_mode_verifies_only_what_is_there() {
    for (live, verified, skipped) in [(vec!["book"], Some("fine"), false), (vec![], None, true)] {
        let mut run = Run::new(true);
        run.section(&shelf(&["book"], &live)).await.unwrap();
        assert_eq!(answer_of(&mut run).await, Ok(verified), "{live:?}");
        assert_eq!(run.report.stages[1].skipped, skipped, "{live:?}");
    }
}

#[tokio::test]
async fn a_missing_prerequisite_is_awaited_in_check_mode_only() {
    let unreachable = || Shelf { observing: RefCell::new([Some(NotThereYet)].into()), ..shelf(&["book"], &["book"]) };
    let mut check = Run::new(true);
    let planned = check.section(&unreachable()).await.unwrap();
    assert_eq!((planned.changes, planned.live), (vec![Put("book")], None));
    let result = check.report.success(None, false);
    assert_eq!((&result["changed"], &result["deferred"]), (&json!(true), &json!(["NotThereYet"])));
    assert_eq!(answer_of(&mut check).await, Ok(None));

    let mut run = Run::new(false);
    assert_eq!(run.section(&unreachable()).await.unwrap_err().msg, "NotThereYet");
    assert!(run.report.deferred.is_empty());
}

#[tokio::test]
async fn a_later_section_gets_what_is_there_by_now() {
    let known = async |check: bool, off: bool, shelf: Shelf, decides: &dyn Fn(&Put) -> bool| {
        let mut run = Run::new(check);
        run.switch_off(off.then(|| "shelf".to_owned()).into_iter().collect());
        run.section(&shelf).await.unwrap().known(&shelf, decides).await.unwrap()
    };
    let half = || shelf(&["book", "clock"], &["clock"]);
    let deferred = || Shelf { observing: RefCell::new([Some(NotThereYet)].into()), ..shelf(&[], &[]) };
    let book = |put: &Put| put.0 == "book";
    let clock = |put: &Put| put.0 == "clock";
    for (case, check, off, shelf, decides, expected) in [
        ("carried out", false, false, half(), &book as &dyn Fn(&Put) -> bool, Known::Now(vec!["clock", "book"])),
        ("planned", true, false, half(), &book, Known::AfterApply),
        ("planned, and about something else", true, false, half(), &clock, Known::Now(vec!["clock"])),
        ("cannot be looked at yet", true, false, deferred(), &book, Known::AfterApply),
        ("switched off", false, true, half(), &book, Known::Now(vec!["clock"])),
        ("switched off in check mode", true, true, half(), &book, Known::Now(vec!["clock"])),
    ] {
        assert_eq!(known(check, off, shelf, decides).await, expected, "{case}");
    }
}

#[tokio::test]
async fn what_cannot_be_planned_yet_is_foreseen() {
    let unreachable = Shelf { observing: RefCell::new([Some(NotThereYet)].into()), is_labelled: true, ..shelf(&[], &[]) };
    let mut check = Run::new(true);
    check.section(&unreachable).await.unwrap();
    let result = check.report.success(None, true);
    assert_eq!((&result["changed"], &result["changes"]), (&json!(true), &json!(["label the shelf"])));
    assert_eq!(result["diff"][0]["after"], "label: that of the house\n");

    let there = Shelf { is_labelled: true, ..shelf(&[], &[]) };
    let mut check = Run::new(true);
    check.section(&there).await.unwrap();
    assert!(check.report.changes.is_empty(), "what can be looked at is planned");
}

#[tokio::test]
async fn check_mode_hides_no_other_error() {
    let broken = Shelf { observing: RefCell::new([Some(Broken)].into()), ..shelf(&["book"], &[]) };
    assert_eq!(Run::new(true).section(&broken).await.unwrap_err().msg, "Broken");
}

#[tokio::test]
async fn a_conflict_leads_to_one_more_look() {
    let contested = |troubles: Vec<Option<Trouble>>| Shelf {
        applying: RefCell::new(troubles.into()),
        ..shelf(&["book", "clock", "vase"], &[])
    };
    let mut run = Run::new(false);
    let once = contested(vec![None, Some(ChangedMeanwhile)]);
    assert_eq!(run.section(&once).await.unwrap().changes, [Put("book"), Put("clock"), Put("vase")]);
    assert_eq!((once.live.take(), once.looks.get()), (vec!["book", "clock", "vase"], 3));
    assert_eq!(run.report.changes.len(), 3);

    let each = contested(vec![Some(ChangedMeanwhile), None, Some(ChangedMeanwhile)]);
    assert!(Run::new(false).section(&each).await.is_ok());

    let again = contested(vec![Some(ChangedMeanwhile), Some(ChangedMeanwhile)]);
    assert_eq!(Run::new(false).section(&again).await.unwrap_err().msg, "ChangedMeanwhile");
    assert_eq!(again.looks.get(), 2);
}

#[tokio::test]
async fn a_failure_carries_what_was_changed_until_then() {
    let breaking = Shelf { applying: RefCell::new([None, Some(Broken)].into()), ..shelf(&["book", "clock", "vase"], &[]) };
    let mut run = Run::new(false);
    let failure = run.section(&breaking).await.unwrap_err();
    let result = run.report.failure(&failure, true);
    assert_eq!((&result["failed"], &result["changed"]), (&json!(true), &json!(true)));
    assert_eq!(result["changes"], json!(["put book on the shelf"]));
    assert_eq!(result["diff"][0]["after_header"], "thing book");
    assert_eq!((run.report.stages[0].changed, breaking.live.take()), (true, vec!["book"]));
}

#[tokio::test]
async fn what_does_not_stay_is_named() {
    let emptied = Shelf { is_emptied: true, ..shelf(&["book", "clock"], &[]) };
    let failure = Run::new(false).section(&emptied).await.unwrap_err();
    assert_eq!(failure.code, "NOT_CONVERGED");
    assert_eq!(failure.msg, "shelf: applied, but the live state still differs: put book on the shelf; put clock on the shelf");
}

#[tokio::test]
async fn a_section_that_is_switched_off_is_not_even_looked_at() {
    let shelf = shelf(&["book"], &[]);
    let mut run = Run::new(false);
    run.switch_off(["shelf".to_owned()].into());
    let converged = run.section(&shelf).await.unwrap();
    assert_eq!((converged.changes, converged.live), (vec![], None));
    assert_eq!(shelf.looks.get(), 0);
    let stage = &run.report.stages[0];
    assert_eq!((stage.name.as_str(), stage.skipped, stage.changed), ("shelf", true, false));
}

#[tokio::test]
async fn warnings_are_told_and_empty_lists_are_not() {
    let mut run = Run::new(false);
    assert!(run.report.success(None, false).get("warnings").is_none());
    run.warn("mind the gap");
    assert_eq!(run.report.success(None, false)["warnings"], json!(["mind the gap"]));
}
