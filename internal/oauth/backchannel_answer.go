package oauth

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/factor"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/session"
)

// errNoRequest does not say whether there is such a request for somebody else.
var errNoRequest = problem.New(problem.NotFound, "request_unknown", "There is no such request for you.").
	WithHint("It may be for another account, or long over. What waits for you is in your list.")

// requestExpired says that a request can be answered no more.
func requestExpired(d grant.Decoupled) *problem.Error {
	return problem.Newf(problem.Invalid, "request_expired", "Nobody answered by %s UTC, so nothing happened.", d.Until.UTC().Format("15:04")).
		WithHint("If you want it, start again in the app.")
}

// errMistypedNumber is for a number that was typed wrongly too often.
var errMistypedNumber = problem.New(problem.Denied, "number_mistyped", "The number was wrong too often, so the app was told no.").
	WithHint("If you want it, start again in the app.")

// Requests are the requests that wait for a person's answer, the newest first.
func (s *Server) Requests(ctx context.Context, person string) ([]grant.Request, error) {
	values, err := s.People.OnceBound(ctx, once.BackchannelAsked, person)
	if err != nil {
		return nil, err
	}
	var out []grant.Request
	for _, v := range values {
		if !v.UsedAt.IsZero() || !s.now().Before(v.ExpiresAt) {
			continue
		}
		x := grant.Request{}
		if err := json.Unmarshal(v.Data, &x.Backchannel); err != nil {
			return nil, err
		}
		x.Name, x.Ping = hex.EncodeToString(v.Key[:]), ""
		if x.App, err = s.Clients.Client(ctx, x.Client); err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// OpenRequest gives the reference with which the browser of the person who was asked
// goes on. It changes nothing.
func (s *Server) OpenRequest(w http.ResponseWriter, r *http.Request, ses session.Session, name string) (string, error) {
	ctx := r.Context()
	key, ok := requestKey(name)
	if !ok {
		return "", errNoRequest
	}
	var b grant.Backchannel
	v, err := s.remembered(ctx, once.BackchannelAsked, key, &b)
	if err != nil {
		return "", oneOf(err, errNoRequest)
	}
	if err := s.stillWaits(v, ses.Person, requestExpired(b.Decoupled)); err != nil {
		return "", err
	}
	b.Ping, b.Name = "", name
	a := &authRequest{in: decoupledInteraction(b.Decoupled)}
	a.in.Details, a.in.Backchannel = b.Details, &b
	if err := s.forOne(ctx, a, ses.Person); err != nil {
		return "", err
	}
	binding, err := s.Browser.Binding(w, r)
	if err != nil {
		return "", err
	}
	return s.Keys.SealState(statePurpose, binding, carry(a.in))
}

func requestKey(name string) (key once.Key, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(key) {
		return key, false
	}
	copy(key[:], b)
	return key, true
}

// waits gives the claim to a request that waits for this person's answer, or says why
// it does not any more.
func (s *Server) waits(ctx context.Context, a *authRequest, person string) (once.Value, error) {
	key, _ := requestKey(a.in.Backchannel.Name)
	v, err := s.State.OnceValue(ctx, once.BackchannelAsked, key)
	over := requestExpired(a.in.Backchannel.Decoupled)
	if err != nil {
		return v, oneOf(err, over)
	}
	return v, s.stillWaits(v, person, over)
}

// stillWaits says why a claim cannot be spent by this person, if it cannot.
func (s *Server) stillWaits(v once.Value, person string, over error) error {
	switch {
	case v.Bound != person:
		return errNoRequest
	case !v.UsedAt.IsZero():
		return errDone
	case !s.now().Before(v.ExpiresAt):
		return over
	}
	return nil
}

// AnswerRequest is what the person says who was asked. typed is the number that the
// client shows, where it shows one. If something else is next, nothing is allowed and
// it is said.
func (s *Server) AnswerRequest(w http.ResponseWriter, r *http.Request, ses session.Session, ref string, what grant.Said, typed string) (grant.Pending, error) {
	a, err := s.open(w, r, ref)
	if err != nil {
		return grant.Pending{}, err
	}
	if a.in.Backchannel == nil {
		return grant.Pending{}, invalid("transaction_unknown", "This address belongs to another page.").WithHint("Start again from your list of requests.")
	}
	ctx := r.Context()
	switch what {
	case grant.Deny:
		return grant.Pending{}, s.denyRequest(ctx, a, ses)
	case grant.Report:
		return grant.Pending{}, s.reportRequest(ctx, a, ses)
	}
	p, err := s.judge(r, a, &ses, ref)
	if err != nil || p.Next != grant.NextRequest {
		return p, err
	}
	v, err := s.waits(ctx, a, ses.Person)
	if err != nil {
		return p, err
	}
	key := v.Key
	if a.in.Backchannel.Number != "" {
		if err := s.match(r, a, ses, v, typed); err != nil {
			return p, err
		}
	}
	return s.approve(r, a, ses, p, key, act.Effect{
		Changes: []act.Change{factor.Refund{Bucket: factor.AskedBucket(ses.Person), Paid: 1}},
		Parts:   append(aboutRequests(key), audit.Part{Person: ses.Person, Body: aboutRequest(a, ses)}),
		Answers: []act.Answer{{Person: ses.Person, Ref: requestPrompt(key)}},
	})
}

// aboutRequest is what the record says of an answer.
func aboutRequest(a *authRequest, ses session.Session) map[string]any {
	return withSaid(map[string]any{"session": ses.ID, "client": a.client.ID}, map[string]string{
		"binding": a.in.Backchannel.Binding, "from": a.in.Backchannel.Address,
	})
}

// aboutRequests says which requests were answered: it concerns nobody, so that their
// client can be told even of somebody who was erased.
func aboutRequests(keys ...once.Key) []audit.Part {
	var names []string
	for _, k := range keys {
		names = append(names, hex.EncodeToString(k[:]))
	}
	return []audit.Part{{Body: map[string]any{"requests": names}}}
}

// match compares the number that was typed with the one that the client was told. It
// is paid for before it is looked at; whoever has used up all tries has said no.
func (s *Server) match(r *http.Request, a *authRequest, ses session.Session, v once.Value, typed string) error {
	ctx, key := r.Context(), v.Key
	_, err := s.Do.Do(ctx, act.Intent{
		Action: policy.CodeMissed, Kind: audit.CIBATried, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{factor.Take{Budgets: []factor.Budget{factor.NumberBudget(hex.EncodeToString(key[:]))}}, once.Miss{Purpose: once.BackchannelAsked, Key: key}},
				Parts:   []audit.Part{{Person: ses.Person, Body: map[string]any{"session": ses.ID, "client": a.client.ID}}},
			}, nil
		},
	})
	p := problem.From(err)
	if err != nil && (p == nil || p.Kind != problem.Throttled) {
		return err
	}
	left := factor.NumberTries - v.Misses - 1
	if err == nil {
		if hmac.Equal([]byte(grant.ReadNumber(typed)), []byte(a.in.Backchannel.Number)) {
			return nil
		}
		s.Do.Missed(act.Wrong{Way: act.WayNumber, Whose: ses.Person}, s.networkOf(r), s.now())
	}
	if err == nil && left > 0 {
		return problem.New(problem.Invalid, "number_wrong", "That is not the number that the app shows.").WithHint(fmt.Sprintf("Tries left: %d.", left))
	}
	if err := s.deny(ctx, a.answering(), ses, key, act.Intent{
		Kind: audit.CIBADenied, Spend: []once.Spend{{Purpose: once.BackchannelAsked, Key: key, Ref: grant.AskMistyped}},
	}, denial(a, ses, "the number was wrong too often", key)); err != nil {
		return err
	}
	return errMistypedNumber
}

func denial(a *authRequest, ses session.Session, why string, keys ...once.Key) act.Effect {
	about := aboutRequest(a, ses)
	if why != "" {
		about["why"] = why
	}
	eff := act.Effect{Parts: append(aboutRequests(keys...), audit.Part{Person: ses.Person, Body: about})}
	for _, k := range keys {
		eff.Answers = append(eff.Answers, act.Answer{Person: ses.Person, Ref: requestPrompt(k), Denied: true})
	}
	return eff
}

// denyRequest tells the client no. It needs nothing but the session.
func (s *Server) denyRequest(ctx context.Context, a *authRequest, ses session.Session) error {
	v, err := s.waits(ctx, a, ses.Person)
	if err != nil {
		return err
	}
	return s.deny(ctx, a.answering(), ses, v.Key, act.Intent{
		Kind: audit.CIBADenied, Spend: []once.Spend{{Purpose: once.BackchannelAsked, Key: v.Key, Ref: grant.AskDenied}},
	}, denial(a, ses, "", v.Key))
}

// reportRequest denies a request that the person did not start, with all others of its
// client that wait for them. The client may not ask them again for a day.
func (s *Server) reportRequest(ctx context.Context, a *authRequest, ses session.Session) error {
	v, err := s.waits(ctx, a, ses.Person)
	if err != nil {
		return err
	}
	key, how := v.Key, a.answering()
	all, err := s.Requests(ctx, ses.Person)
	if err != nil {
		return err
	}
	spend := []once.Spend{{Purpose: once.BackchannelAsked, Key: key, Ref: grant.AskReported}}
	var with act.Effect
	keys := []once.Key{key}
	for _, x := range all {
		k, _ := requestKey(x.Name)
		if x.Client != a.client.ID || k == key {
			continue
		}
		other := how
		other.Decoupled = x.Decoupled
		put, err := other.answered(k, grant.Answered{Denied: true})
		if err != nil {
			return err
		}
		keys, with.Changes = append(keys, k), append(with.Changes, put)
		spend = append(spend, once.Spend{Purpose: once.BackchannelAsked, Key: k, Ref: grant.AskReported})
	}
	slices.SortFunc(spend, func(a, b once.Spend) int { return slices.Compare(a.Key[:], b.Key[:]) }) // two windows take them in one order
	said := denial(a, ses, "", keys...)
	with.Parts, with.Answers = said.Parts, said.Answers
	return s.deny(ctx, how, ses, key, act.Intent{Kind: audit.CIBAReported, Spend: spend}, with)
}
