package portal

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/diff"
	"github.com/countersign-dev/countersign/internal/portal/view"
	"github.com/countersign-dev/countersign/internal/ruleset"
)

// statement is what is signed of a publication, in words: every line that differs from
// the version that it follows, and what that means.
func (s *Server) statement(ctx context.Context, p *ruleset.Publication) (view.Statement, error) {
	m := view.Statement{Title: "What is signed"}
	base, from, err := s.follows(ctx, p.After)
	if err != nil {
		return m, err
	}
	to, err := ruleset.Compile(p.Source)
	if err != nil {
		return m, err
	}
	by, err := s.submitter(ctx, p)
	if err != nil {
		return m, err
	}
	follow := "version " + strconv.FormatInt(p.After, 10)
	if p.After == 0 {
		follow = "the default policies, which are version 0"
	}
	note := p.Note
	if note == "" {
		note = "not said"
	}
	m.Facts = []view.Fact{
		view.NewFact("Publication", p.ID), view.NewFact("Server", s.Issuer), view.NewFact("Hash of the policies", p.Hash), view.NewFact("They follow", follow),
		view.NewFact("Submitted", view.Moment(p.At)+", by "+by), view.NewFact("Why, in their words", note),
	}
	if p.Waves == nil {
		m.Facts = append(m.Facts, view.NewFact("They come into force", "at once, for everybody"))
	} else {
		m.Facts = append(m.Facts, view.NewFact("They come into force", "in waves, as a rollout"))
		m.Parts = append(m.Parts, wavesPart(p.Waves))
	}
	exceptions, err := s.exceptionsPart(ctx, from.Exceptions(), to.Exceptions())
	if err != nil {
		return m, err
	}
	m.Parts = append(m.Parts, rulesPart(from, to), exceptions)
	for _, f := range diff.Of(base, p.Source, 3) {
		m.Parts = append(m.Parts, view.FilePart(f))
	}
	return m, nil
}

// follows is a version that a publication follows, as text and as a set.
func (s *Server) follows(ctx context.Context, n int64) (policy.Source, *policy.Set, error) {
	set, err := s.Rollouts.Book.Read(ctx, n)
	if err != nil || n == 0 {
		return policy.Default(), set, err
	}
	v, err := s.Rollouts.Book.Store.Ruleset(ctx, n)
	return v.Source, set, err
}

// submitter names who submitted a publication, by a name that somebody gave and an id
// that nobody did.
func (s *Server) submitter(ctx context.Context, p *ruleset.Publication) (string, error) {
	name, err := s.sayer(ctx, p.By)
	if p.ByKind == policy.KindService {
		name = "the service " + name
	}
	return name + " (" + p.By + ")", err
}

func wavesPart(waves []policy.Wave) view.Part {
	p := view.Part{Title: "Waves"}
	for i := range waves {
		x := &waves[i]
		p.Lines = append(p.Lines, view.NewLine(diff.Both, strconv.Itoa(i+1)+": "+whoIn(x)+"; from "+view.Moment(x.From)+
			"; goes back by itself if in any 24 hours more than "+strconv.Itoa(x.Budget.Prompts)+" prompts or "+strconv.Itoa(x.Budget.Denials)+" refusals are new"))
	}
	return p
}

// changes is the sign of a line that says what is another now.
const changes = diff.Op('~')

// rulesPart says which rules come, go and change.
func rulesPart(from, to *policy.Set) view.Part {
	p := view.Part{Title: "Rules", None: "No rule comes, goes or changes."}
	words := func(x *policy.Policy) string {
		text := x.ID + ": " + x.Reason
		if x.Monitor {
			text += " (Watched, and not enforced.)"
		}
		return text
	}
	for _, c := range policy.Changes(from, to) {
		switch {
		case c.Was == nil:
			p.Lines = append(p.Lines, view.NewLine(diff.New, words(c.Is)))
		case c.Is == nil:
			p.Lines = append(p.Lines, view.NewLine(diff.Gone, words(c.Was)))
		case words(c.Was) == words(c.Is):
			p.Lines = append(p.Lines, view.NewLine(changes, words(c.Is)))
		default:
			p.Lines = append(p.Lines, view.NewLine(changes, words(c.Is)+" Before: "+words(c.Was)))
		}
	}
	return p
}

// exceptionsPart says which exceptions come, go and change, with their ends.
func (s *Server) exceptionsPart(ctx context.Context, from, to []policy.Exception) (view.Part, error) {
	p := view.Part{Title: "Exceptions", None: "No exception comes, goes or changes."}
	was := map[string]policy.Exception{}
	for _, e := range from {
		was[e.ID] = e
	}
	add := func(op diff.Op, e policy.Exception) error {
		text, err := s.exceptionWords(ctx, e)
		p.Lines = append(p.Lines, view.NewLine(op, text))
		return err
	}
	for _, e := range to {
		old, before := was[e.ID]
		delete(was, e.ID)
		var err error
		switch {
		case !before:
			err = add(diff.New, e)
		case !same(old, e):
			err = add(changes, e)
		}
		if err != nil {
			return p, err
		}
	}
	for _, e := range from {
		if _, left := was[e.ID]; left {
			if err := add(diff.Gone, e); err != nil {
				return p, err
			}
		}
	}
	return p, nil
}

func same(a, b policy.Exception) bool {
	ends := a.Until.Equal(b.Until)
	a.Until, b.Until = time.Time{}, time.Time{}
	return ends && a == b
}

// exceptionWords is an exception in a line.
func (s *Server) exceptionWords(ctx context.Context, e policy.Exception) (string, error) {
	var x view.WaivedRule
	err := s.whom(ctx, e.For, &x)
	who := "the " + x.Kind + " " + x.Whom
	if !strings.HasPrefix(e.For, "group:") {
		who += " (" + e.For + ")"
	}
	return e.ID + ": waives " + e.Rule + " for " + who + " until " + view.Moment(e.Until) + ". Instead, it needs " + policy.Words(e.Instead()) +
		". Why: " + e.Reason + " Owner: " + e.Owner, err
}
