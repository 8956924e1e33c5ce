package pdp

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// answer is a decision as AuthZEN has it.
type answer struct {
	Decision bool    `json:"decision"`
	Context  *reason `json:"context,omitempty"`
}

// reason is what an answer tells beside yes or no: what would do (mechanisms A27), the
// policy's public reason, and a reference (A10). It is the same whether or not what was
// asked about exists.
type reason struct {
	ACRValues       string            `json:"acr_values,omitempty"`
	MaxAge          int64             `json:"max_age,omitempty"` // seconds
	ClientAssurance string            `json:"client_assurance,omitempty"`
	Words           map[string]string `json:"reason_user,omitempty"` // by language
	Error           *fault            `json:"error,omitempty"`
	Ref             string            `json:"ref,omitempty"`
}

// fault is why one of several questions was not answered.
type fault struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}

// evaluation answers one question.
func (s *Server) evaluation(w http.ResponseWriter, r *http.Request, c Caller, o object) error {
	q, err := ask(o.part, false)
	if err != nil {
		return err
	}
	x, err := s.begin(r.Context(), c, web.RecordOf(r).Ref())
	if err != nil {
		return err
	}
	a, err := x.decide(r.Context(), q)
	if err != nil {
		return err
	}
	return web.JSON(w, http.StatusOK, a)
}

// The meanings of several questions in one request.
const (
	executeAll          = "execute_all"
	denyOnFirstDeny     = "deny_on_first_deny"
	permitOnFirstPermit = "permit_on_first_permit"
)

// evaluations answers several questions. What stands at the top of the request is what a
// question has that does not say it itself, each member as a whole.
func (s *Server) evaluations(w http.ResponseWriter, r *http.Request, c Caller, o object) error {
	semantic, err := semanticOf(o)
	if err != nil {
		return err
	}
	var items []json.RawMessage
	if raw, ok := o["evaluations"]; ok {
		if err := json.Unmarshal(raw, &items); err != nil || items == nil {
			return wrong("evaluations is an array.")
		}
	}
	switch {
	case len(items) == 0:
		return s.evaluation(w, r, c, o)
	case len(items) > maxItems:
		return problem.Newf(problem.Invalid, "invalid_request", "There are more than %d evaluations.", maxItems)
	}
	x, err := s.begin(r.Context(), c, web.RecordOf(r).Ref())
	if err != nil {
		return err
	}
	out := make([]answer, 0, len(items))
	top := once(o)
	for _, raw := range items {
		a, err := x.item(r.Context(), top, raw)
		if err != nil {
			return err
		}
		out = append(out, a)
		if semantic == denyOnFirstDeny && !a.Decision || semantic == permitOnFirstPermit && a.Decision {
			break
		}
	}
	return web.JSON(w, http.StatusOK, map[string][]answer{"evaluations": out})
}

func semanticOf(o object) (string, error) {
	options, err := o.member("options")
	if err != nil {
		return "", err
	}
	raw, ok := options["evaluations_semantic"]
	if !ok {
		return executeAll, nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil || !slices.Contains([]string{executeAll, denyOnFirstDeny, permitOnFirstPermit}, s) {
		return "", wrong("options.evaluations_semantic is one of execute_all, deny_on_first_deny, permit_on_first_permit.")
	}
	return s, nil
}

// item answers one of several. One that cannot be read is refused in its place, and the
// others are answered.
func (r *round) item(ctx context.Context, top func(string) part, raw json.RawMessage) (answer, error) {
	q, err := one(top, raw)
	if err != nil {
		return unanswered(err, r.ref), nil
	}
	a, err := r.decide(ctx, q)
	if p := problem.From(err); p != nil && p.Kind == problem.Invalid {
		return unanswered(err, r.ref), nil
	}
	return a, err
}

// one reads one of several questions, which has of top what it does not say itself.
func one(top func(string) part, raw json.RawMessage) (question, error) {
	var own object
	if err := json.Unmarshal(raw, &own); err != nil || own == nil {
		return question{}, wrong("An evaluation is an object.")
	}
	return ask(func(name string) part {
		if _, ok := own[name]; ok {
			return own.part(name)
		}
		return top(name)
	}, false)
}

// once reads each part of what stands at the top of a request once for all its questions:
// the work is bounded by what was sent, not by that times their number.
func once(top object) func(string) part {
	read := map[string]part{}
	return func(name string) part {
		p, ok := read[name]
		if !ok {
			p = top.part(name)
			read[name] = p
		}
		return p
	}
}

func unanswered(err error, ref string) answer {
	p := problem.From(err)
	return answer{Context: &reason{Error: &fault{web.StatusOf(p), p.Detail}, Ref: ref}}
}

// searchAction finds which of a resource server's actions a subject may do on a
// resource. They are few and known, so that each is decided.
func (s *Server) searchAction(w http.ResponseWriter, r *http.Request, c Caller, o object) error {
	q, err := ask(o.part, true)
	if err != nil {
		return err
	}
	if err := onePage(o); err != nil {
		return err
	}
	x, err := s.begin(r.Context(), c, "")
	if err != nil {
		return err
	}
	names := []string{}
	for i := range c.Resources {
		for _, p := range x.set.Places(c.Resources[i].URI) {
			if name := string(p.Action); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	type found struct {
		Name string `json:"name"`
	}
	out := struct {
		Page    map[string]string `json:"page"`
		Results []found           `json:"results"`
	}{map[string]string{"next_token": ""}, []found{}}
	who, err := x.subject(r.Context(), q)
	if errors.Is(err, errHolder) {
		return web.JSON(w, http.StatusOK, out)
	}
	if err != nil {
		return err
	}
	for _, q.action = range names {
		a, err := x.decided(r.Context(), who, q)
		if err != nil {
			return err
		}
		if a.Decision {
			out.Results = append(out.Results, found{q.action})
		}
	}
	return web.JSON(w, http.StatusOK, out)
}

// onePage refuses to go on from a page: there is one, and it has everything.
func onePage(o object) error {
	page, err := o.member("page")
	if err != nil {
		return err
	}
	if raw, ok := page["token"]; ok && string(raw) != `""` {
		return wrong("page.token is not of this search: all there is comes at once.")
	}
	return nil
}
