package server

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/notify"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/portal"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/store"
	"github.com/countersign-dev/countersign/internal/web"
)

// Egress is the guard on outbound calls as the configuration has it.
func (s *State) Egress() (web.Egress, error) {
	e := web.Egress{Allow: s.Config.Egress.Allow}
	if s.Config.Egress.Proxy != "" {
		u, err := url.Parse(s.Config.Egress.Proxy)
		if err != nil {
			return e, fmt.Errorf("egress.proxy: %w", err)
		}
		e.Proxy = u
	}
	if len(s.Config.Egress.CAFiles) == 0 {
		return e, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return e, fmt.Errorf("the system's certificate authorities: %w", err)
	}
	for _, path := range s.Config.Egress.CAFiles {
		text, err := os.ReadFile(path)
		if err != nil {
			return e, fmt.Errorf("egress.ca_files: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return e, fmt.Errorf("egress.ca_files: %s has no certificate", path)
		}
	}
	e.CAs = pool
	return e, nil
}

// newNotifier builds what delivers notices.
func (s *Server) newNotifier() (*notify.Notifier, error) {
	egress, err := s.Egress()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(s.Config.Issuer)
	if err != nil {
		return nil, err
	}
	c := notify.Config{
		Host: u.Host, Book: s.Store, Log: noticeLog{s.State}, Directory: directory{s.Store}, Do: s.Do,
		Hooks: notify.NewHooks(egress, s.Sealer, s.now), Apps: newDepartures(s, egress), Links: s.links, Conditions: s.conditions(), Logger: s.log, Now: s.now,
	}
	if m := s.Config.Mail; m.Host != "" {
		c.Mail, err = notify.NewMailer(notify.MailConfig{
			Host: m.Host, Port: m.Port, TLS: m.TLS, Username: m.Username, Password: secret.Given(m.Password), From: m.From, ReplyTo: m.ReplyTo, CAs: egress.CAs,
		}, u.Host)
	}
	return notify.New(c), err
}

// links gives the link that a noun puts into a mail about an event. It is made
// when the mail is sent, so that no secret waits anywhere.
func (s *Server) links(ctx context.Context, e notice.Event, person, address string) (string, error) {
	switch e.Kind {
	case audit.EmailAsked:
		return s.emailLink(ctx, person, address)
	}
	return s.recoveryLink(e)
}

// emailLink makes the link that proves an address; an earlier one works no more.
func (s *Server) emailLink(ctx context.Context, person, address string) (string, error) {
	put, link := account.NewEmailProof(s.Config.Issuer, account.EmailProof{Person: person, Email: address}, s.now())
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.NotificationRun, Kind: audit.EmailLinked, Refs: act.Refs{Kind: policy.KindSystem, Target: []string{person}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{put}, Parts: []audit.Part{{Person: person}}}, nil
		},
	})
	return link, err
}

// noticeLog gives the deliverer of notices the log.
type noticeLog struct{ *State }

// Events gives opened records of some kinds. One that was changed in the database
// is left out: verifying the log finds it.
func (l noticeLog) Events(ctx context.Context, from int64, kinds []audit.Kind, n int) ([]notice.Event, int64, error) {
	found, next, err := l.Store.Look(ctx, from, kinds, n)
	if err != nil {
		return nil, from, err
	}
	out := make([]notice.Event, 0, len(found))
	for _, r := range found {
		e, err := l.open(ctx, r)
		var t *audit.Tampered
		if errors.As(err, &t) {
			l.log.Error("a record was changed", "record", r.ID, "err", err)
			continue
		}
		if err != nil {
			return nil, from, err
		}
		out = append(out, e)
	}
	return out, next, nil
}

// Event gives one record, opened.
func (l noticeLog) Event(ctx context.Context, record string) (notice.Event, error) {
	r, err := l.Store.RecordByID(ctx, record)
	if err != nil {
		return notice.Event{}, err
	}
	return l.open(ctx, r)
}

func (l noticeLog) open(ctx context.Context, r store.Record) (notice.Event, error) {
	parts, err := audit.Open(ctx, r.Row, l.Names)
	if err != nil {
		return notice.Event{}, err
	}
	return notice.NewEvent(r.Seq, r.Row, parts, l.namer(ctx)), nil
}

// issuing are the kinds of record whose facts say what a token may do.
var issuing = []audit.Kind{audit.TokenIssued, audit.TokenRefreshed, audit.TokenExchanged}

// Broad gives the unusually broad tokens of a span of the log, each sort once.
func (l noticeLog) Broad(ctx context.Context, from, to int64) (out []notify.Broad, err error) {
	all, err := l.Store.FactsOf(ctx, from, to, issuing)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		var facts struct {
			Client   string `json:"client"`
			Resource string `json:"resource"`
			Detail   struct {
				Scopes []string `json:"scopes"`
			} `json:"detail"`
		}
		if json.Unmarshal(f.Facts, &facts) != nil || facts.Client == "" {
			continue
		}
		why, err := l.broad(ctx, facts.Client, facts.Resource, facts.Detail.Scopes)
		if err != nil {
			return nil, err
		}
		if why != "" {
			out = append(out, notify.Broad{Record: f.Record, Client: facts.Client, Why: why})
		}
	}
	return out, nil
}

// broad says why a token for a resource is broad. Only tokens that could be are
// looked at further.
func (l noticeLog) broad(ctx context.Context, client, res string, scopes []string) (string, error) {
	if len(scopes) <= notice.BroadScopes && !slices.Contains(scopes, "offline_access") {
		return "", nil
	}
	c, err := l.Store.Client(ctx, client)
	if err != nil {
		return "", unknownIsNone(err)
	}
	var r resource.Resource
	if res != "" {
		if r, err = l.Store.Resource(ctx, res); err != nil {
			return "", unknownIsNone(err)
		}
	}
	t := notice.Token{Scopes: scopes, FirstParty: c.FirstParty, Identity: resource.Identity, Elevated: func(name string) bool {
		sc, ok := r.Scope(name)
		return ok && (sc.Kind == resource.KindAdmin || sc.Kind == resource.KindSpend || sc.Ask.Rung >= assurance.Phishing)
	}}
	return t.Broad(), nil
}

// unknownIsNone is nil for what is not there any more.
func unknownIsNone(err error) error {
	if errors.Is(err, problem.NotFound) {
		return nil
	}
	return err
}

// directory finds who is told.
type directory struct{ *store.Store }

// maxAdministrators is to how many administrators an alert is mailed.
const maxAdministrators = 100

// Administrators are the live members of the administrators' group.
func (d directory) Administrators(ctx context.Context) (out []account.Person, err error) {
	g, err := d.GroupByName(ctx, group.Administrators)
	if err != nil {
		return nil, unknownIsNone(err)
	}
	ids, err := d.Members(ctx, g.ID, "", maxAdministrators)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		p, err := d.Person(ctx, id)
		if err != nil {
			if err = unknownIsNone(err); err != nil {
				return nil, err
			}
			continue
		}
		if p.Node.Live() {
			out = append(out, p)
		}
	}
	return out, nil
}

// conditions are the states of this deployment that are alerts.
func (s *Server) conditions() []notify.Condition {
	return []notify.Condition{
		{Rule: notice.LogBehind, Check: s.logBehind},
		{Rule: notice.DiskHeadroom, Check: s.diskHeadroom},
		{Rule: notice.NotWitnessed, Check: s.notWitnessed},
		{Rule: notice.PolicyBroken, Check: s.policyBroken},
		{Rule: notice.ReviewOverdue, Each: s.reviewOverdue},
		{Rule: notice.ExceptionEnds, Each: s.exceptionEnds},
	}
}

// behind is how many records, and how long, the log may be behind.
const (
	behindRecords = 10000
	behindFor     = 30 * time.Second
)

// logBehind finds that records are not numbered or not signed.
func (s *Server) logBehind(ctx context.Context) (bool, string, error) {
	if fault := s.seq.Fault(); fault != nil {
		return true, "the log does not grow", nil
	}
	c, err := s.Store.Counts(ctx)
	if err != nil {
		return false, "", err
	}
	if c.Pending > behindRecords {
		return true, fmt.Sprintf("%d records are not numbered", c.Pending), nil
	}
	if c.Records == c.Signed {
		return false, "", nil
	}
	_, at, err := s.Store.LastSigned(ctx)
	if errors.Is(err, problem.NotFound) {
		return false, "", nil // the first one is made within a second
	}
	return err == nil && s.now().Sub(at) > behindFor, "no checkpoint was signed for long", err
}

// witnessedWithin is how long checkpoints may go without a witness, where one has
// signed before.
const witnessedWithin = 10 * time.Minute

// notWitnessed finds that no witness has signed for long, though one did before
// and the log has grown since, or that somebody outside cannot be reached. Of a deployment without witnesses there is nothing to
// find.
func (s *Server) notWitnessed(ctx context.Context) (bool, string, error) {
	if stands, why := s.unshown(); stands {
		return true, why, nil
	}
	size, at, ok, err := s.Store.LastWitnessed(ctx)
	if err != nil || !ok || s.now().Sub(at) < witnessedWithin {
		return false, "", err
	}
	signed, _, err := s.Store.LastSigned(ctx)
	if err != nil {
		return false, "", unknownIsNone(err)
	}
	return signed > size, "no witness has signed for more than ten minutes", nil
}

// headroom is how much of an embedded database's disk has to be free.
const headroom = 4 * defaultReserve

// diskHeadroom finds that the disk of an embedded database is nearly full. Of a
// database elsewhere this process knows nothing.
func (s *Server) diskHeadroom(context.Context) (bool, string, error) {
	if s.Store.Room() == store.ReserveUsed {
		return true, "the reserve is used, and no tokens are issued", nil
	}
	free, ok, err := s.Store.Free()
	return ok && err == nil && free < headroom, fmt.Sprintf("less than %d MiB are free", headroom>>20), err
}

// noticePages is what the administrators' page of notices stands on.
func (s *Server) noticePages() (*portal.Notices, error) {
	egress, err := s.Egress()
	if err != nil {
		return nil, err
	}
	log := noticeLog{s.State}
	return &portal.Notices{
		Store: s.Store, Sealer: s.Sealer, Plain: egress.Allowed,
		Alerts: log.alerts, Line: log.line,
		Size: func(ctx context.Context) (int64, error) {
			size, _, err := s.Store.Head(ctx)
			return int64(size), err
		},
	}, nil
}

// alerts gives the alerts of the log, newest first.
func (l noticeLog) alerts(ctx context.Context, n int) (out []notice.Event, err error) {
	rows, _, err := l.Store.AuditPage(ctx, store.Filter{Kinds: []audit.Kind{audit.AlertRaised, audit.AlertCleared}}, n)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		e, err := l.open(ctx, r)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// line gives a record as a list shows it.
func (l noticeLog) line(ctx context.Context, record string) (audit.Line, error) {
	e, err := l.Event(ctx, record)
	return e.Line, err
}
