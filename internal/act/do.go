package act

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/web"
)

// tries is how often an act is decided before the caller is told to come back.
// A conditional write loses to another only when that one succeeded, so three
// rounds are many; parallel refreshes need one more each.
const tries = 3

// limit is how long an issuing transaction may take (mechanisms C6).
const limit = 2 * time.Second

// Doer carries out acts. The zero value is not usable; fill every member but
// Now.
type Doer struct {
	Store  Store
	Policy *policy.Set // the default set
	// Rulesets gives the set of a version that was published; nil: none is. An
	// error refuses: nothing is decided by another set instead.
	Rulesets func(ctx context.Context, version int64) (*policy.Set, error)
	// Candidates gives the set that a rollout brings; nil: there are none.
	Candidates func(ctx context.Context, rollout int64) (*policy.Set, error)
	Ladder     assurance.Ladder
	Writer     *audit.Writer
	Keys       audit.Keys
	Refused    func(action policy.Action, code string) // counts quiet refusals; nil: not counted
	// Failed is told of a decision in which the policies failed or contradict each
	// other, which refused (mechanisms A4, A6). nil: nobody is.
	Failed func(action policy.Action, d policy.Decision)
	// Cost is told that a rollout cost somebody something, which is on record. nil:
	// nobody is.
	Cost func()
	// Checkpoint waits until a record is under a signed checkpoint; acts of
	// critical kinds are answered only then (mechanisms E9). nil: not waited for.
	Checkpoint func(ctx context.Context, recordID string) error
	Risk       Scorer // nil: no risk is scored
	// Wrong counts a proof that was wrong; nil: nobody counts.
	Wrong   func(Way)
	Reviews Reviews // nil: nobody looks at what was refused
	// Zone names the operator's zone that a network is in, "" if it is in none; nil: there
	// are none.
	Zone func(netip.Prefix) string
	// ManagesDevices says that policies may ask for a device that is the operator's.
	ManagesDevices bool
	// Slow holds an answer back, or until ctx ends; nil: by the clock of the machine.
	Slow func(ctx context.Context, long time.Duration)
	Now  func() time.Time // nil: time.Now

	facts factsCache
	met   metCache
}

// Outcome is what came of an act that was carried out.
type Outcome struct {
	RecordID string
	At       time.Time
	Value    any // what Seal made
	Decision policy.Decision
	Facts    *Facts
	kind     audit.Kind
}

// signed waits until the act's record is under a checkpoint.
func (d *Doer) signed(ctx context.Context, out Outcome) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.Checkpoint(ctx, out.RecordID); err != nil {
		return out, problem.New(problem.Unavailable, "not_yet_signed", "The change was made, but its record is not signed yet. Reload to see it.").Because(err)
	}
	return out, nil
}

func (d *Doer) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Do loads, decides, seals and commits. A refusal is recorded and comes back as
// a problem (Denied, StepUp); *once.Used and *once.Gone come back as they are.
// When what was decided on moves three times in a row the answer is
// Unavailable.
func (d *Doer) Do(ctx context.Context, in Intent) (Outcome, error) {
	at := d.now().UTC().Truncate(time.Microsecond) // before anything is read (C6)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var err error
	for range tries {
		var out Outcome
		out, err = d.try(ctx, in, at)
		if err == nil && d.Checkpoint != nil && out.kind.Critical() {
			return d.signed(context.WithoutCancel(ctx), out)
		}
		if !errors.Is(err, ErrStale) {
			if p := problem.From(err); err != nil && ctx.Err() != nil && p == nil {
				err = problem.New(problem.Unavailable, "busy", "The server is busy. Nothing was changed.").Because(err)
			}
			return out, err
		}
	}
	return Outcome{}, problem.New(problem.Unavailable, "contended", "Others are changing the same thing right now. Nothing was changed.").Because(err)
}

func (d *Doer) try(ctx context.Context, in Intent, at time.Time) (Outcome, error) {
	facts, err := d.Store.Load(ctx, in.Action, in.Refs)
	if err != nil {
		return Outcome{}, err
	}
	if in.Prepare != nil { // after the versions it relies on: what moves since is noticed by the commit
		if err := in.Prepare(ctx); err != nil {
			return Outcome{}, err
		}
	}
	dec, err := d.decide(ctx, &facts, in, at)
	if err != nil {
		return Outcome{}, err
	}
	rec := audit.Record{ID: id.New(id.Record), Kind: in.Kind, At: at}
	if dec.Outcome != policy.Allow {
		return Outcome{}, d.refuse(ctx, in, &facts, dec, rec, Effect{Review: d.refusal(&in, &facts, dec)}, dec.Problem(d.Ladder))
	}
	var eff Effect
	if in.Changes != nil {
		if eff, err = in.Changes(&facts, dec); err != nil {
			if problem.Refusal(err) {
				return Outcome{}, d.refuse(ctx, in, &facts, dec, rec, eff, problem.From(err))
			}
			return Outcome{}, err
		}
	}
	out := Outcome{RecordID: rec.ID, At: at, Decision: dec, Facts: &facts}
	if in.Seal != nil {
		out.Value, err = in.Seal(Sealing{RecordID: rec.ID, At: at, Facts: &facts, Decision: dec})
		if err != nil {
			return Outcome{}, fmt.Errorf("%s: seal: %w", in.Action, err)
		}
	}
	if eff.Kind != 0 {
		rec.Kind = eff.Kind
	}
	rec.Leaf, out.kind = eff.Leaf, rec.Kind
	if err := d.prompts(ctx, &eff, at); err != nil {
		return Outcome{}, fmt.Errorf("%s: prompts: %w", in.Action, err)
	}
	if d.scores(&in) {
		if c := d.Risk.Keep(in.Refs.Actor, at); c != nil {
			eff.Changes = append(eff.Changes[:len(eff.Changes):len(eff.Changes)], c)
		}
	}
	d.describe(&rec, in, &facts, dec, eff, "")
	row, err := d.Writer.Seal(ctx, rec, d.Keys)
	if err != nil {
		return Outcome{}, fmt.Errorf("%s: record: %w", in.Action, err)
	}
	err = d.commit(ctx, Write{
		At: at, Record: rec.ID, Guard: facts.Guard,
		Spend:   append(in.Spend[:len(in.Spend):len(in.Spend)], eff.Spend...),
		Changes: eff.Changes, Row: row, Met: eff.Met,
	})
	if err != nil {
		return Outcome{}, unsure(err)
	}
	if !eff.Against {
		d.learn(&in, &facts, at)
	}
	return out, nil
}

// commit stores an act and has its writer remember what became of its record
// (mechanisms E3).
func (d *Doer) commit(ctx context.Context, w Write) error {
	err := d.Store.Commit(ctx, w)
	d.Writer.Settle(w.Row, settled(err))
	if err == nil && w.Met != nil && d.Cost != nil {
		d.Cost()
	}
	return err
}

// settled says what became of a record whose commit gave an error: nothing was
// written, unless the store could not tell.
func settled(err error) audit.Outcome {
	var used *once.Used
	var gone *once.Gone
	switch {
	case err == nil:
		return audit.Committed
	case errors.Is(err, ErrStale), errors.Is(err, ErrNotWritten), errors.As(err, &used), errors.As(err, &gone), problem.Refusal(err):
		return audit.RolledBack
	}
	return audit.Doubtful
}

// unsure says of an act whose commit was not answered what is known: neither that it
// was done nor that it was not.
func unsure(err error) error {
	if !errors.Is(err, problem.Unavailable) || settled(err) != audit.Doubtful {
		return err
	}
	return problem.New(problem.Unavailable, CodeUnknown,
		"The database did not answer: this was either done completely or not at all, and it is not known which. Look before you do it again.").Because(err)
}

// Judge loads and decides, and changes nothing: what a page needs to know before
// it asks. Its answer is a statement about now, never a promise (mechanisms
// A13); the act that follows decides again. What a rollout makes of it is recorded,
// because the page may be all that becomes of it.
func (d *Doer) Judge(ctx context.Context, in Intent) (policy.Decision, *Facts, error) {
	at := d.now().UTC().Truncate(time.Microsecond)
	facts, err := d.Store.Load(ctx, in.Action, in.Refs)
	if err != nil {
		return policy.Decision{}, nil, err
	}
	return d.judge(ctx, in, facts, at)
}

func (d *Doer) judge(ctx context.Context, in Intent, facts Facts, at time.Time) (policy.Decision, *Facts, error) {
	dec, err := d.decide(ctx, &facts, in, at)
	if err == nil {
		err = d.tell(ctx, &in, &dec, at)
	}
	return dec, &facts, err
}

// decide puts the proofs and the time into the input and asks policy. What has
// ended or expired refuses before any rule.
func (d *Doer) decide(ctx context.Context, f *Facts, in Intent, at time.Time) (policy.Decision, error) {
	set, err := d.set(ctx, f.Ruleset)
	switch {
	case err != nil && policy.OfHost(in.Refs.Kind):
		set = d.Policy // says the same of them, and they are who mends it
	case err != nil:
		return policy.Decision{}, err
	}
	var proofs []assurance.Proof
	for _, p := range f.Proofs {
		if p.For == "" || p.For == in.For {
			proofs = append(proofs, p)
		}
	}
	proofs = append(proofs, in.Proofs...)
	f.Input.Action = in.Action
	if len(in.Refs.Target) == 0 && in.Refs.Owner != "" { // of targets, storage says whose they are
		f.Input.Resource.Owner = in.Refs.Owner
	}
	f.Input.Context.Now = at
	f.Input.Context.Presented = in.Refs.Presented
	f.Input.Context.Token, f.Input.Context.Details = in.Token, in.Details
	d.whence(&in, f)
	f.Input.Context.Assurance = assurance.Evaluate(in.Refs.Actor, proofs, at)
	f.Proofs = proofs
	if e := in.Elsewhere; e != nil {
		f.Input.Resource, f.Input.Context.Assurance, f.Proofs = e.On, e.Shown, nil
		if e.Who != nil {
			f.Input.Principal = *e.Who
		}
	}
	for _, e := range f.Expiry {
		if !e.At.IsZero() && !at.Before(e.At) && f.Input.Context.Ended == "" {
			f.Input.Context.Ended = e.ID
		}
	}
	if f.Risk, err = d.score(ctx, &in, f, at); err != nil {
		return policy.Decision{}, err
	}
	dec, err := d.answer(ctx, set, f, &in, at)
	if err != nil {
		return policy.Decision{}, err
	}
	if d.Failed != nil && (dec.Code == policy.CodeError || dec.Code == policy.CodeInconsistent) {
		d.Failed(in.Action, dec)
	}
	return dec, nil
}

// Waiver is an exception with the rule that it waives.
type Waiver struct {
	policy.Exception
	Rule policy.Policy
}

// Exceptions are those that concern whom facts are of, as they stand now, by the
// policies that the facts were judged by.
func (d *Doer) Exceptions(ctx context.Context, f *Facts) ([]Waiver, error) {
	set, err := d.set(ctx, f.Ruleset)
	if err == nil && f.Rollout.Enforced(f.Rollout.Wave(f.Input.Principal), d.now()) {
		set, err = d.candidate(ctx, f.Rollout.N)
	}
	if err != nil {
		return nil, err
	}
	var out []Waiver
	for _, e := range set.Exceptions() {
		if !e.Concerns(f.Input.Principal) || !d.now().Before(e.Until) {
			continue
		}
		w := Waiver{Exception: e}
		for _, p := range set.Policies() {
			if p.ID == e.Rule {
				w.Rule = p
			}
		}
		out = append(out, w)
	}
	return out, nil
}

// set is the policies of a version.
func (d *Doer) set(ctx context.Context, version int64) (*policy.Set, error) {
	switch {
	case version == 0:
		return d.Policy, nil
	case d.Rulesets == nil:
		return nil, fmt.Errorf("policies were published, version %d, and this process knows none", version)
	}
	set, err := d.Rulesets(ctx, version)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "policy_unavailable", "The policies in force cannot be read. Nothing was changed.").Because(err)
	}
	return set, nil
}

// refuse records a refusal with whom it concerns, has somebody look at it where
// that is called for, changes nothing else, and gives the problem. What it rests on is
// re-checked as for what is allowed: facts from a cache may be old, and nothing else would
// ever notice.
func (d *Doer) refuse(ctx context.Context, in Intent, f *Facts, dec policy.Decision, rec audit.Record, eff Effect, p *problem.Error) error {
	if in.Quiet {
		if d.Refused != nil {
			d.Refused(in.Action, p.Code)
		}
		if err := d.tell(ctx, &in, &dec, rec.At); err != nil {
			return err
		}
		return p
	}
	rec.Refused = true
	d.describe(&rec, in, f, dec, Effect{Parts: referred(ctx, eff.Parts)}, p.Code)
	row, err := d.Writer.Seal(ctx, rec, d.Keys)
	if err != nil {
		return fmt.Errorf("%s: record the refusal: %w", in.Action, err)
	}
	look := eff.Review
	if look != nil {
		look.At, look.Record, look.Ref = rec.At, rec.ID, web.RefOf(ctx)
	}
	if err := d.commit(ctx, Write{At: rec.At, Record: rec.ID, Guard: f.Guard, Changes: d.again(look), Row: row, Met: in.met(&dec)}); err != nil {
		return fmt.Errorf("%s: record the refusal: %w", in.Action, err)
	}
	d.probed(ctx, &in, f, rec.At)
	opened, err := d.open(ctx, look)
	if err != nil {
		return fmt.Errorf("%s: %w", in.Action, err)
	}
	return p.Looked(opened)
}

// facts is what a record keeps of a decision; equal ones are stored once.
type recordFacts struct {
	Action   policy.Action `json:"action"`
	Kind     string        `json:"kind,omitempty"`
	Client   string        `json:"client,omitempty"`
	Service  string        `json:"service,omitempty"`
	Resource string        `json:"resource,omitempty"`
	ACR      string        `json:"acr,omitempty"`
	Methods  []string      `json:"methods,omitempty"`
	Outcome  string        `json:"outcome"`
	Code     string        `json:"code,omitempty"`
	Policy   string        `json:"policy"`
	Reasons  []string      `json:"reasons,omitempty"`
	Risk     string        `json:"risk,omitempty"`    // the band, where it is not low
	Signals  []string      `json:"signals,omitempty"` // … and what made it so
	Detail   any           `json:"detail,omitempty"`
	// Seen is what the decision can be made again of; nil where it never is.
	Seen *replay.Shared `json:"seen,omitempty"`
	// Monitored is what the answer would have been with the policies in mode monitor;
	// nil if the same.
	Monitored *monitored `json:"monitored,omitempty"`
	// Rollout is what one that runs makes of it; nil if nothing.
	Rollout *rolledOut `json:"rollout,omitempty"`
}

// monitored is an answer that was not given.
type monitored struct {
	Outcome string   `json:"outcome"`
	Code    string   `json:"code,omitempty"`
	Reasons []string `json:"reasons,omitempty"`
}

// other is an answer that was not given, nil if there is none.
func other(d *policy.Decision) *monitored {
	if d == nil {
		return nil
	}
	return &monitored{d.Outcome.String(), d.Code, policiesOf(d.Reasons)}
}

func policiesOf(reasons []policy.Reason) (ids []string) {
	for _, r := range reasons {
		if r.Policy != "" {
			ids = append(ids, r.Policy)
		}
	}
	return ids
}

// describe fills the record: the interned decision facts, and a part for each
// person concerned.
func (d *Doer) describe(rec *audit.Record, in Intent, f *Facts, dec policy.Decision, eff Effect, refused string) {
	rf := recordFacts{
		Action: in.Action, Kind: in.Refs.Kind, Client: in.Refs.Client, Resource: in.Refs.Resource,
		Outcome: dec.Outcome.String(), Code: refused, Policy: dec.PolicyVersion, Detail: eff.Detail,
	}
	if in.Refs.Kind == "service" {
		rf.Service = in.Refs.Actor
	}
	if best := f.Input.Context.Assurance.Best(); best.Rung > 0 {
		rf.ACR = d.Ladder.ACR(best.Rung)
	}
	for _, p := range f.Proofs {
		rf.Methods = append(rf.Methods, string(p.Method))
	}
	rf.Reasons = policiesOf(dec.Reasons)
	if worst := f.Risk.Worst(); worst != risk.Low {
		rf.Risk = worst
		for _, t := range f.Risk.Terms {
			rf.Signals = append(rf.Signals, string(t.Signal))
		}
	}
	rf.Monitored, rf.Rollout = other(dec.Monitored), tried(dec.Tried)
	var saw *replay.World
	if replay.Keeps(in.Refs.Kind) {
		var seen replay.Shared
		seen, saw = replay.See(&f.Input, dec.Ask)
		rf.Seen = &seen
	}
	rec.Facts = d.facts.interned(rf)
	rec.Parts = append(rec.Parts, eff.Parts...)
	d.describeActor(rec, in, dec, saw)
}

// describeActor fills the part of whoever acted, with what the decision saw of
// them and why it refused.
func (d *Doer) describeActor(rec *audit.Record, in Intent, dec policy.Decision, saw *replay.World) {
	actor := in.Refs.Actor
	if in.Refs.Kind != policy.KindPerson || actor == "" {
		return
	}
	who := map[string]any{}
	i := slices.IndexFunc(rec.Parts, func(p audit.Part) bool { return p.Person == actor })
	if i >= 0 {
		said, plain := rec.Parts[i].Body.(map[string]any)
		if !plain && rec.Parts[i].Body != nil {
			return
		}
		maps.Copy(who, said)
	} else {
		rec.Parts = append([]audit.Part{{Person: actor}}, rec.Parts...) // the actor comes first
		i = 0
		if in.Refs.Session != "" {
			who["session"] = in.Refs.Session
		}
		if in.Refs.Grant != "" {
			who["grant"] = in.Refs.Grant
		}
	}
	if saw != nil {
		who["saw"] = saw
	}
	if p := dec.Problem(d.Ladder); rec.Refused && p != nil { // in words, which may be of them alone
		who["why"] = words(p.Why)
	}
	rec.Parts[i].Body = who
}

// Spent reports whether err says that a value was already used, and by what.
func Spent(err error) (*once.Used, bool) {
	var u *once.Used
	ok := errors.As(err, &u)
	return u, ok
}
