// Package foreign reads the access and sign-in logs of others (nginx, Okta,
// Entra, Keycloak) and makes decisions of them, so that a policy set can be tried
// on what people did before anything of ours stood in their way. It takes of a log
// what it needs and nothing else, never fails on what it does not know, and counts
// and names the lines that it cannot read.
package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// Formats are the logs that can be read.
var Formats = []string{"nginx", "okta", "entra", "keycloak"}

// Bounds of what is read.
const (
	maxLine   = 1 << 20 // bytes of one line or event
	maxEvents = 2_000_000
	maxShown  = 5 // bad lines that are named
)

// Assume is what a log does not say.
type Assume struct {
	Rung      assurance.Rung // of a sign-in that does not say how
	Session   time.Duration  // how long somebody stays signed in
	Sensitive assurance.Ask  // what a write needs
}

// Bad is a line that could not be read.
type Bad struct {
	Line int    `json:"line"` // or the number of the event, from 1
	Why  string `json:"why"`
}

// Log is what was read of a file.
type Log struct {
	Lines   int   `json:"lines"`
	Events  int   `json:"events"`  // of people who were let in
	Failed  int   `json:"failed"`  // who were not
	Skipped int   `json:"skipped"` // of nobody, or of what is neither a sign-in nor access
	Bad     int   `json:"bad"`
	Shown   []Bad `json:"shown,omitempty"` // the first of them

	events []event
	names  []string // of people and applications
	index  map[string]uint32
}

// event is what a log says of one moment.
type event struct {
	at       int64 // microseconds
	who, app uint32
	signIn   bool
	write    bool
	rung     assurance.Rung // of a sign-in; None: not said
}

// fact is an event as a format says it.
type fact struct {
	at            time.Time
	who, app      string
	signIn, write bool
	failed        bool
	rung          assurance.Rung
}

// errSkip says that a line is of nobody or of nothing that is decided.
var errSkip = errors.New("neither a sign-in nor access of somebody")

// Read reads a log. Its error is that of the reader, or says that the file is none
// of its format or too long; single lines that cannot be read are counted. tell,
// which may be nil, is told now and then how many bytes were read.
func Read(format string, r io.Reader, tell func(bytes int64)) (*Log, error) {
	l := &Log{index: map[string]uint32{}}
	in := &counted{r: r, tell: tell}
	var err error
	switch format {
	case "nginx":
		err = lines(in, func(n int, text []byte) error { return l.take(n, text, nginx) })
	case "okta":
		err = objects(in, func(n int, text []byte) error { return l.take(n, text, okta) })
	case "entra":
		err = objects(in, func(n int, text []byte) error { return l.take(n, text, entra) })
	case "keycloak":
		err = objects(in, func(n int, text []byte) error { return l.take(n, text, keycloak) })
	default:
		err = fmt.Errorf("%q is no format that can be read: %v", format, Formats)
	}
	if err == nil && l.Events+l.Failed+l.Skipped == 0 && l.Bad > 0 {
		err = fmt.Errorf("no line is one of %s: the first, %d, %s", format, l.Shown[0].Line, l.Shown[0].Why)
	}
	if err != nil {
		return nil, err
	}
	// Exports come newest first as often as not.
	slices.SortStableFunc(l.events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return l, nil
}

// counted tells how far a reader is.
type counted struct {
	r    io.Reader
	n    int64
	last int64
	tell func(int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	if c.tell != nil && c.n-c.last >= 1<<20 {
		c.last = c.n
		c.tell(c.n)
	}
	return n, err
}

// take counts a line, and keeps what it says.
func (l *Log) take(n int, text []byte, read func([]byte) (fact, error)) error {
	l.Lines++
	f, err := read(text)
	if err == nil && (f.at.Year() < 1990 || f.at.Year() > 2200) {
		err = errors.New("has no time")
	}
	if err == nil && f.who == "" {
		err = errSkip
	}
	switch {
	case errors.Is(err, errSkip):
		l.Skipped++
	case err != nil:
		l.bad(n, err)
	case f.failed:
		l.Failed++
	case len(l.events) >= maxEvents:
		return fmt.Errorf("there are more than %d events: read a part of the log", maxEvents)
	default:
		l.Events++
		l.events = append(l.events, event{f.at.UnixMicro(), l.name(f.who), l.name(f.app), f.signIn, f.write, f.rung})
	}
	return nil
}

func (l *Log) bad(n int, err error) {
	if l.Bad++; len(l.Shown) < maxShown {
		l.Shown = append(l.Shown, Bad{n, err.Error()})
	}
}

// name keeps a name once.
func (l *Log) name(s string) uint32 {
	if len(s) > 256 {
		s = s[:256]
	}
	i, ok := l.index[s]
	if !ok {
		i = uint32(len(l.names))
		l.names = append(l.names, s)
		l.index[s] = i
	}
	return i
}

// Try decides everything that a log says by the set of a trial: that somebody may
// have access, and, of a write, what the assumption says that it needs. Whoever
// was not seen to sign in did so, as assumed, with the first that is seen of them.
func (l *Log) Try(t *replay.Trial, as Assume) {
	type session struct {
		at   int64
		rung assurance.Rung
	}
	signedIn := map[uint32]session{}
	shared := map[bool]map[uint32]*replay.Facts{false: {}, true: {}}
	facts := func(e *event) *replay.Facts {
		f := shared[e.write][e.app]
		if f == nil {
			f = &replay.Facts{Action: policy.Authorize, Kind: policy.KindPerson, Client: l.names[e.app], Outcome: policy.Allow.String()}
			in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson}}
			if e.write && as.Sensitive.Demands() {
				in.Context.Scopes = []policy.ScopeAsk{{Name: "write", Ask: as.Sensitive, Required: true, Conditional: true}}
			}
			seen, _ := replay.See(&in, assurance.Ask{})
			f.Seen = &seen
			shared[e.write][e.app] = f
		}
		return f
	}
	for i := range l.events {
		e := &l.events[i]
		s, ok := signedIn[e.who]
		if e.signIn || !ok || e.at-s.at > as.Session.Microseconds() {
			s = session{e.at, cmp.Or(e.rung, as.Rung)}
			signedIn[e.who] = s
		}
		at := time.UnixMicro(e.at).UTC()
		in := policy.Input{Principal: policy.Entity{Kind: policy.KindPerson}, Context: policy.Context{Now: at, Risk: policy.UnknownRisk}}
		old := max(at.Sub(time.UnixMicro(s.at)), 1) // a nanosecond stands for now
		in.Context.Assurance = assurance.Ask{Rung: s.rung, MaxAge: old}.Raise(assurance.State{HumanPresent: true}, at)
		_, saw := replay.See(&in, assurance.Ask{})
		t.Add(&replay.Decision{At: at, Who: l.names[e.who], Session: fmt.Sprintf("%d/%d", e.who, s.at), Saw: saw, Facts: facts(e)})
	}
}
