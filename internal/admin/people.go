package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// Person is somebody who acts.
type Person struct {
	ID            string    `json:"id" example:"usr_01JD…"`
	Subject       string    `json:"sub" doc:"What tokens call them"`
	Name          string    `json:"name"`
	Username      string    `json:"username"`
	Email         string    `json:"email,omitempty"`
	EmailVerified bool      `json:"email_verified"`
	Groups        []string  `json:"groups" nullable:"false" doc:"Names"`
	Factors       int       `json:"factors" doc:"Ways to sign in that work"`
	State         string    `json:"state" enum:"active,disabled"`
	CreatedAt     time.Time `json:"created_at"`
	Marked        int       `json:"marked_devices,omitempty" doc:"When they are disabled: devices of others that they called managed, which stay so; see GET /v1/devices. At most 100 are counted"`
}

// Me is the caller.
type Me struct {
	Person
	Administrator bool       `json:"administrator"`
	ClientID      string     `json:"client_id"`
	Scope         string     `json:"scope"`
	Grant         string     `json:"grant"`
	Session       string     `json:"session,omitempty"`
	ACR           string     `json:"acr,omitempty" doc:"What the sign-in reached"`
	AuthTime      *time.Time `json:"auth_time,omitempty"`
}

// Tagged is the header of what can be changed: If-Match of the change.
type Tagged struct {
	ETag string `header:"ETag"`
}

type (
	none struct{}
	idIn struct {
		ID string `path:"id" maxLength:"64"`
	}
	meOut     struct{ Body Me }
	personOut struct {
		Tagged
		Body Person
	}
	reasonBody struct {
		Reason string `json:"reason,omitempty" maxLength:"200" doc:"Why, for the record and the page that tells them"`
	}
	reasonIn struct {
		ID   string `path:"id" maxLength:"64"`
		Body *reasonBody
	}
	eraseIn struct {
		ID      string `path:"id" maxLength:"64"`
		IfMatch string `header:"If-Match" maxLength:"64"`
		Body    struct {
			Username string `json:"username" maxLength:"64" doc:"Their user name, so that nobody else is erased"`
		}
	}
)

func (a *API) people() {
	const tag = "people"
	register(a, operation{
		id: "me", method: http.MethodGet, path: "/v1/me", summary: "Who is asking", tag: tag,
		scope: ScopeSelf, action: policy.SelfRead, kind: audit.TokenRefused, own: true,
	}, a.me)
	register(a, operation{
		id: "list-people", method: http.MethodGet, path: "/v1/people", summary: "List people", tag: tag,
		scope: ScopeRead, action: policy.PersonRead, kind: audit.TokenRefused,
	}, a.listPeople)
	register(a, operation{
		id: "get-person", method: http.MethodGet, path: "/v1/people/{id}", summary: "Read a person", tag: tag,
		scope: ScopeRead, action: policy.PersonRead, kind: audit.TokenRefused,
	}, func(ctx context.Context, _ *call, in *idIn) (*personOut, error) { return a.showPerson(ctx, in.ID) })
	register(a, operation{
		id: "disable-person", method: http.MethodPost, path: "/v1/people/{id}/disable", tag: tag,
		summary: "Stop a person, and everything of theirs, until they are enabled",
		scope:   ScopeWrite, action: policy.PersonDisable, kind: audit.PersonDisabled, status: http.StatusOK,
	}, a.disable)
	register(a, operation{
		id: "enable-person", method: http.MethodPost, path: "/v1/people/{id}/enable", summary: "Let a disabled person act again", tag: tag,
		scope: ScopeWrite, action: policy.PersonEnable, kind: audit.PersonEnabled, status: http.StatusOK,
	}, a.enable)
	register(a, operation{
		id: "erase-person", method: http.MethodDelete, path: "/v1/people/{id}", tag: tag,
		summary: "Erase a person for ever: their data, and the key of what was recorded of them",
		scope:   ScopeWrite, action: policy.PersonErase, kind: audit.PersonErased, status: http.StatusNoContent,
	}, a.erase)
}

func (a *API) me(ctx context.Context, c *call, _ *none) (*meOut, error) {
	p, err := a.viewPerson(ctx, c.Person)
	if err != nil {
		return nil, err
	}
	g, err := a.Access.Grant(ctx, c.Grant)
	if err != nil {
		return nil, err
	}
	me := Me{
		Person: p, Administrator: slices.Contains(p.Groups, group.Administrators),
		ClientID: c.ClientID, Scope: c.Claims.Scope, Grant: c.Grant, Session: g.Session,
	}
	if best := c.facts.Input.Context.Assurance.Best(); best.Rung > 0 {
		at := best.AuthTime.UTC()
		me.ACR, me.AuthTime = a.Do.Ladder.ACR(best.Rung), &at
	}
	return &meOut{me}, nil
}

func (a *API) listPeople(ctx context.Context, _ *call, in *PageParams) (*pageOut[Person], error) {
	return paged(*in, func(after string, n int) ([]account.Person, error) { return a.Directory.People(ctx, after, n) },
		func(p account.Person) string { return p.ID }, nil,
		func(p account.Person) (Person, error) { return a.viewPerson(ctx, p) })
}

func (a *API) viewPerson(ctx context.Context, p account.Person) (Person, error) {
	groups, err := a.Directory.GroupsOf(ctx, p.ID)
	if err != nil {
		return Person{}, err
	}
	out := Person{
		ID: p.ID, Subject: p.Subject, Name: p.Name, Username: p.Username, Email: p.Email, EmailVerified: p.Verified,
		Groups: []string{}, Factors: p.Factors, State: "active", CreatedAt: p.CreatedAt,
	}
	for _, g := range groups {
		if g.Node.Live() {
			out.Groups = append(out.Groups, g.Name)
		}
	}
	slices.Sort(out.Groups)
	if !p.Node.Live() {
		out.State = "disabled"
	}
	return out, nil
}

func (a *API) showPerson(ctx context.Context, id string) (*personOut, error) {
	p, err := a.Directory.Person(ctx, id)
	if err != nil {
		return nil, err
	}
	v, err := a.viewPerson(ctx, p)
	return &personOut{Tagged{tag(p.Node)}, v}, err
}

// tokenPerson is a person by id, or by what tokens call them.
func (a *API) tokenPerson(ctx context.Context, ref string) (account.Person, error) {
	p, err := a.Directory.Person(ctx, ref)
	if errors.Is(err, problem.NotFound) {
		p, err = a.Directory.PersonBySubject(ctx, ref)
	}
	return p, err
}

// reasoned reads the reason of an act: words for people.
func reasoned(b *reasonBody) (string, error) {
	if b == nil {
		return "", nil
	}
	s := strings.TrimSpace(b.Reason)
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
		return "", problem.New(problem.Invalid, "reason_invalid", "A reason has at most 200 characters, and no control characters.")
	}
	return s, nil
}

// said is a reason as a record keeps it: of the person, since it is free text.
func said(reason string) map[string]any {
	if reason == "" {
		return nil
	}
	return map[string]any{"reason": reason}
}

// other finds a person who is not the caller: nobody locks themselves out here,
// and so somebody who may manage the deployment always remains.
func (a *API) other(ctx context.Context, c *call, id string) (account.Person, error) {
	p, err := a.Directory.Person(ctx, id)
	if err == nil && p.ID == c.Person.ID {
		err = problem.New(problem.Conflict, "own_account", "That is your own account: another administrator has to do it.")
	}
	return p, err
}

func (a *API) disable(ctx context.Context, c *call, in *reasonIn) (*personOut, error) {
	reason, err := reasoned(in.Body)
	if err != nil {
		return nil, err
	}
	p, err := a.other(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	if p.Node.FrozenAt.IsZero() {
		_, err = a.carryOut(ctx, c, change{
			target: []string{p.ID}, whom: p.ID, said: said(reason),
			make: func(*act.Facts) ([]act.Change, error) {
				return []act.Change{lineage.Freeze{ID: p.ID, Why: "disabled"}}, nil
			},
		})
		if err != nil {
			return nil, err
		}
	}
	out, err := a.showPerson(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	marks, err := a.Access.Marked(ctx, p.ID, a.now(), "", 100)
	out.Body.Marked = len(marks) // those of their own devices have ended with them
	return out, err
}

func (a *API) enable(ctx context.Context, c *call, in *reasonIn) (*personOut, error) {
	reason, err := reasoned(in.Body)
	if err != nil {
		return nil, err
	}
	p, err := a.Directory.Person(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !p.Node.FrozenAt.IsZero() {
		_, err = a.carryOut(ctx, c, change{
			target: []string{p.ID}, whom: p.ID, said: said(reason),
			make: func(*act.Facts) ([]act.Change, error) { return []act.Change{lineage.Thaw{ID: p.ID}}, nil },
		})
		if err != nil {
			return nil, err
		}
	}
	return a.showPerson(ctx, p.ID)
}

func (a *API) erase(ctx context.Context, c *call, in *eraseIn) (*none, error) {
	p, err := a.other(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	m, err := matching(in.IfMatch, p.Node)
	if err != nil {
		return nil, err
	}
	if in.Body.Username != p.Username {
		return nil, problem.New(problem.Invalid, "confirmation_wrong", "The user name is not theirs. Nobody was erased.")
	}
	_, err = a.carryOut(ctx, c, change{
		target: []string{p.ID}, whom: p.ID, match: m,
		make: func(*act.Facts) ([]act.Change, error) { return []act.Change{account.Erase{ID: p.ID}}, nil },
	})
	return nil, err
}
