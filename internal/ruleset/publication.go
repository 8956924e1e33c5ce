package ruleset

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/canon"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Publication is a set that somebody wants in force, at once or wave by wave. It
// gives nobody anything until a person has signed exactly it; then whoever may submit
// carries it out, once. Everything but its state and its signature never changes.
type Publication struct {
	ID     string
	After  int64 // the version in force that it follows: once there is another, it is over
	Hash   string
	Source policy.Source // empty in lists
	Waves  []policy.Wave // nil: in force at once, for all
	Note   string        // why, in the words of whoever submitted it; not signed
	By     string        // who submitted it: a person or a service
	ByKind string        // policy.KindPerson or policy.KindService
	At     time.Time
	Until  time.Time // it is over then: SubmittedLife after At, or earlier once it is signed
	State  PublicationState
	Signed *Signature // nil: nobody has
	Became int64      // the version or, with waves, the rollout that it was carried out as; 0: it was not
	Record string     // of the act that submitted it
	OverAt time.Time  // zero while it is open
}

// PublicationState is how far a publication came. One that is open may be over all the
// same, by the clock or because another version is in force: Standing says so.
type PublicationState string

// The states; the first two are open.
const (
	Unsigned   PublicationState = "unsigned"
	Signed     PublicationState = "signed"
	CarriedOut PublicationState = "carried_out"
	Withdrawn  PublicationState = "withdrawn"
	Ended      PublicationState = "ended" // its signature, its time or its place in the order of versions
)

// Open reports whether something can become of it.
func (s PublicationState) Open() bool { return s == Unsigned || s == Signed }

// Bounds of publications.
const (
	MaxPublications = 16             // open at a time
	MaxOfServices   = 8              // of them, so that no pipeline leaves people without room
	MaxOfADay       = 100            // that one service may hand in and that are of the last SubmittedLife, open or not
	SubmittedLife   = 24 * time.Hour // a set waits so long to be signed and carried out
	SignedLife      = time.Hour      // a signature counts so long, and never beyond what is signed
)

// Signature is a person's WebAuthn assertion over a publication, as the browser gave
// it (mechanisms B5–B13). Whoever verified it before it was kept is the portal; the
// bytes let anybody verify it again.
type Signature struct {
	By                string    `json:"by"`         // the person
	At                time.Time `json:"at"`         // of the act that kept it
	Until             time.Time `json:"until"`      // it puts nothing in force from then on
	Credential        string    `json:"credential"` // cred_…
	Ceremony          []byte    `json:"ceremony"`   // canonical JSON (B6)
	ClientData        []byte    `json:"client_data"`
	AuthenticatorData []byte    `json:"authenticator_data"`
	Signature         []byte    `json:"signature"`
	Key               []byte    `json:"key"` // the credential's public key, COSE
}

// Submit stores a publication that is unsigned: problem.Conflict (policy_moved,
// rollout_running, publications_full, publications_many; publication_open if one of the same set, after
// the same version, with the same plan, is open).
type Submit struct{ Publication }

// Sign keeps the signature of a publication that waits for one: problem.Conflict
// (publication_over). Publication.Sign makes it.
type Sign struct {
	ID, Hash, Plan string
	After          int64
	Signature      Signature
}

// Withdraw ends a publication that is open: problem.Conflict (publication_over).
type Withdraw struct{ ID string }

// Change marks Submit as a change.
func (Submit) Change() {}

// Change marks Sign as a change.
func (Sign) Change() {}

// Change marks Withdraw as a change.
func (Withdraw) Change() {}

// PublicationStore reads publications.
type PublicationStore interface {
	// Publication gives one; problem.NotFound (publication_not_found).
	Publication(ctx context.Context, id string) (Publication, error)
	// Publications lists them without their source, newest first, those below before;
	// "" begins with the newest.
	Publications(ctx context.Context, before string, n int) ([]Publication, error)
	// OpenPublications gives those that are open, likewise: MaxPublications at most.
	OpenPublications(ctx context.Context) ([]Publication, error)
	// OpenPublication gives the one of a set, by its hash, after a version, with a plan
	// (PlanHash), that is open at a time; ok is false if none is.
	OpenPublication(ctx context.Context, after int64, hash, plan string, at time.Time) (p Publication, ok bool, err error)
}

var (
	errOver     = problem.New(problem.Conflict, "publication_over", "This is over: it was carried out or withdrawn, its signature counts no more, or its time has passed. Submit it again.")
	errUnsigned = problem.New(problem.Conflict, "publication_unsigned", "Nobody has signed this yet.")
	errSigned   = problem.New(problem.Conflict, "publication_signed", "This is signed already.")
	errOther    = problem.New(problem.Invalid, "signature_other", "The signature is of something else.")
	errAltered  = problem.New(problem.Conflict, "publication_altered", "The policies are not those that were submitted. Withdraw this, and submit them again.")
)

// AlreadySigned is the refusal of a second signature.
func AlreadySigned() *problem.Error { return errSigned }

// Over is the refusal of what cannot be done any more with a publication.
func Over() *problem.Error { return errOver }

// planned is a wave as it is hashed.
type planned struct {
	Groups  []string `json:"groups"`
	Rest    bool     `json:"rest"`
	From    string   `json:"from"`
	Prompts int      `json:"prompts"`
	Denials int      `json:"denials"`
}

// PlanHash names the waves of a publication, with their dates and budgets: "sha256:"
// and base64url, "" for none. The order of a wave's groups does not matter.
func PlanHash(waves []policy.Wave) string {
	if len(waves) == 0 {
		return ""
	}
	list := make([]planned, len(waves))
	for i, w := range waves {
		list[i] = planned{append([]string{}, w.Groups...), w.Rest, w.From.UTC().Format(time.RFC3339Nano), w.Budget.Prompts, w.Budget.Denials}
		slices.Sort(list[i].Groups)
	}
	content, _ := canon.Marshal(map[string]any{"v": 1, "waves": list}) // texts and small numbers: cannot fail
	sum := canon.H(canon.LabelPlan, content)
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Plan is the PlanHash of its waves.
func (p *Publication) Plan() string { return PlanHash(p.Waves) }

// Digest is what is signed of a publication of an issuer: the set, the version that it
// follows, and how it comes into force.
func (p *Publication) Digest(issuer string) [32]byte {
	content, _ := canon.Marshal(map[string]any{"v": 1, "iss": issuer, "id": p.ID, "after": p.After, "hash": p.Hash, "plan": p.Plan()}) // as in PlanHash
	return canon.H(canon.LabelPublication, content)
}

// Challenge is what an authenticator is given to sign a publication in a ceremony, in
// canonical form (mechanisms B7).
func (p *Publication) Challenge(issuer string, ceremony []byte) [32]byte {
	return canon.Challenge(canon.LabelChallengeStepUp, p.Digest(issuer), ceremony)
}

// Standing is the state as it is at a time, with a version in force: beside the stored
// ones "expired", and "moved" where another version is in force by now.
func (p *Publication) Standing(head int64, at time.Time) string {
	switch {
	case !p.State.Open():
	case p.After != head:
		return "moved"
	case !at.Before(p.Until):
		return "expired"
	}
	return string(p.State)
}

// SigningDecision is the dec of a ceremony in which a publication is signed.
const SigningDecision = "publish"

// attests refuses evidence that is of another publication, another person or another
// kind of act.
func (p *Publication) attests(s *Signature, issuer string) error {
	var c struct {
		Req, By, Dec string
	}
	if canonical, err := canon.Strict(s.Ceremony, canon.Limits{Bytes: 4 << 10, Depth: 4, Members: 32, NameBytes: 64}); err != nil || !bytes.Equal(canonical, s.Ceremony) {
		return errOther
	}
	if json.Unmarshal(s.Ceremony, &c) != nil || c.Req != p.ID || c.By != s.By || c.Dec != SigningDecision {
		return errOther
	}
	var d struct{ Type, Challenge string }
	want := p.Challenge(issuer, s.Ceremony)
	if json.Unmarshal(s.ClientData, &d) != nil || d.Type != "webauthn.get" || d.Challenge != base64.RawURLEncoding.EncodeToString(want[:]) {
		return errOther
	}
	return nil
}

// Sign gives the change that keeps a signature which was verified, made now. It counts
// for SignedLife, and never beyond what is signed.
func (p *Publication) Sign(s Signature, issuer string, now time.Time) (Sign, error) {
	switch {
	case p.State == Signed && now.Before(p.Until):
		return Sign{}, errSigned
	case p.State != Unsigned || !now.Before(p.Until):
		return Sign{}, errOver
	}
	if err := p.attests(&s, issuer); err != nil {
		return Sign{}, err
	}
	s.At, s.Until = now, now.Add(SignedLife)
	if p.Until.Before(s.Until) {
		s.Until = p.Until
	}
	return Sign{ID: p.ID, After: p.After, Hash: p.Hash, Plan: p.Plan(), Signature: s}, nil
}

// Said is what the records of a publication say, of nobody.
func (p *Publication) Said() map[string]any {
	said := map[string]any{"publication": p.ID, "policy": p.Hash, "version": p.After + 1}
	if len(p.Waves) > 0 {
		said["waves"] = p.Waves
	}
	return said
}

// Desk is where publications are submitted, signed and carried out: the same rules for
// the API and the pages.
type Desk struct {
	Issuer       string
	Publications PublicationStore
	Rollouts     RolloutStore
	// Group refuses the name of a group that is not there: its wave would be of nobody.
	Group func(ctx context.Context, name string) error
}

// Check refuses a publication that may not come into force, however it is signed: by
// its note, its policies, what they have to prove, and its waves. The set is that of
// its source.
func (d *Desk) Check(ctx context.Context, p *Publication, now time.Time) (*policy.Set, error) {
	if err := CheckNote(p.Note); err != nil {
		return nil, err
	}
	set, err := Compile(p.Source)
	if err != nil {
		return nil, err
	}
	if err := CheckExceptions(set, p.Source, now); err != nil {
		return nil, err
	}
	if p.Waves == nil {
		return set, nil
	}
	if err := CheckWaves(p.Waves, now); err != nil {
		return nil, err
	}
	for _, w := range p.Waves {
		for _, name := range w.Groups {
			if err := d.Group(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}

// New completes a publication that somebody submits: After, Hash, Source, Waves, Note,
// By and ByKind are theirs.
func (p Publication) New(id string, now time.Time) Submit {
	p.ID, p.At, p.Until, p.State = id, now, now.Add(SubmittedLife), Unsigned
	return Submit{p}
}

// again is what has to hold of a publication whenever something is done with it: its
// source is what was submitted, to the letter, and everything is proved anew.
func (d *Desk) again(ctx context.Context, p *Publication, now time.Time) (*policy.Set, error) {
	if p.Source.Hash() != p.Hash {
		return nil, errAltered
	}
	return d.Check(ctx, p, now)
}

// Signing reads a publication that is to be signed. check refuses whoever signs, by
// what their own act was decided on: under the set they could not sign and submit
// another. It goes into the Changes of the act, before Publication.Sign.
func (d *Desk) Signing(ctx context.Context, id string, now time.Time) (p Publication, check func(policy.Input) error, err error) {
	if p, err = d.Publications.Publication(ctx, id); err != nil {
		return p, nil, err
	}
	set, err := d.again(ctx, &p, now)
	if err != nil {
		return p, nil, err
	}
	return p, func(in policy.Input) error { return Undoable(set, in) }, nil
}

// Carrying is a publication that is being carried out: one act of policy.PolicySubmit,
// of whoever does it.
type Carrying struct {
	Kind    audit.Kind     // of the record
	Signer  string         // a person concerned, beside the caller
	Said    map[string]any // of nobody
	Changes []act.Change
	Became  int64 // the version, or the rollout
}

// CarryOut gives what carries a publication out that was signed. by is who does: a
// person or a service, whom the act MUST allow policy.PolicySubmit. The commit decides:
// it spends the publication while it is signed, in its time, of somebody who is live
// and still in the groups that they were in, and after the version in force:
// problem.Conflict (publication_over, policy_moved, rollout_running).
func (d *Desk) CarryOut(ctx context.Context, p *Publication, by string, now time.Time) (Carrying, error) {
	switch {
	case p.State == Unsigned && now.Before(p.Until):
		return Carrying{}, errUnsigned
	case p.State != Signed || !now.Before(p.Until):
		return Carrying{}, errOver
	}
	if _, err := d.again(ctx, p, now); err != nil {
		return Carrying{}, err
	}
	if err := p.attests(p.Signed, d.Issuer); err != nil {
		return Carrying{}, err
	}
	out := Carrying{Kind: audit.PolicyPublished, Signer: p.Signed.By, Said: p.Said(), Became: p.After + 1}
	if p.Waves == nil {
		v := Version{N: out.Became, Hash: p.Hash, Source: p.Source, By: p.Signed.By, Note: p.Note, Of: NoVersion, Carrier: by, Publication: p.ID, Signature: p.Signed}
		out.Changes = []act.Change{Publish{Version: v, Spends: true}}
		return out, nil
	}
	last, err := d.Rollouts.Rollouts(ctx, 0, 1)
	if err != nil {
		return Carrying{}, err
	}
	out.Kind, out.Became = audit.RolloutStarted, 1
	if len(last) > 0 {
		out.Became = last[0].N + 1
	}
	delete(out.Said, "version")
	out.Said["rollout"], out.Said["after"] = out.Became, p.After
	out.Changes = []act.Change{Start{Rollout{
		N: out.Became, Hash: p.Hash, Source: p.Source, By: p.Signed.By, Note: p.Note, Base: p.After, Waves: p.Waves, State: Open,
		Carrier: by, Publication: p.ID, Signature: p.Signed,
	}}}
	return out, nil
}

// CarriedOut looks, where carrying a publication out was refused, whether it was carried
// out all the same: whoever signs on a page, and a command that waits for that, may do so
// at the same time, and for both it is done. became is as in Carrying; 0: it was not.
func (d *Desk) CarriedOut(ctx context.Context, id string, refusal error) (became int64, err error) {
	if !problem.Refusal(refusal) {
		return 0, refusal
	}
	p, err := d.Publications.Publication(ctx, id)
	if err == nil && p.State != CarriedOut {
		err = refusal
	}
	if err != nil {
		return 0, err
	}
	return p.Became, nil
}

// MayWithdraw refuses a service that withdraws what somebody else submitted.
func (p *Publication) MayWithdraw(by, kind string) error {
	if kind != policy.KindPerson && by != p.By {
		return problem.New(problem.Denied, "publication_of_another", "A service withdraws what it submitted itself.")
	}
	return nil
}

// SignPath is the path of the page on which a publication is signed, below the issuer.
func SignPath(id string) string { return "/admin/publications/" + strings.TrimPrefix(id, "/") }
