package oauth

import (
	"context"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// mayDetail reports whether a client is registered for a type of authorization
// details.
func mayDetail(c client.Client, name string) bool {
	return slices.Contains(c.DetailsTypes, name) || slices.Contains(c.DetailsTypes, "*")
}

func badDetails(detail string) error { return invalid("invalid_authorization_details", detail) }

// details reads authorization_details of an authorization request (RFC 9396 §2): every
// element is of a type that the client is registered for and that one of its resources
// has, in the form that the type demands. Nothing is dropped silently. Its resources
// are asked for by that.
func (s *Server) details(ctx context.Context, a *authRequest, f web.Form) error {
	text := f.Get("authorization_details")
	if text == "" {
		return nil
	}
	list, err := s.clientResources(ctx, a.client, f.All("resource"))
	if err != nil {
		return err
	}
	asked, err := resource.ReadDetails(text)
	if err != nil {
		return err
	}
	for _, e := range asked {
		if err := fitting(a.client, e, list); err != nil {
			return err
		}
		for _, res := range list {
			if res.Carries(e) && !slices.Contains(a.in.Resources, res.ID) {
				a.in.Resources = append(a.in.Resources, res.ID)
			}
		}
	}
	a.in.Details = asked
	return nil
}

// fitting holds an element against the resources that carry it.
func fitting(c client.Client, e resource.Element, list []resource.Resource) error {
	if !mayDetail(c, e.Type) {
		return badDetails("The app is not registered for authorization details of the type " + asciiOnly(e.Type) + ".")
	}
	where, said, err := e.Locations()
	if err != nil {
		return err
	}
	carried := 0
	for _, res := range list {
		t, ok := res.Details(e.Type)
		if !ok || !res.Carries(e) {
			continue
		}
		carried++
		if err := t.Fits(e); err != nil {
			return err
		}
	}
	if carried == 0 || said && carried < len(where) {
		return badDetails("No resource of this request has authorization details of the type " + asciiOnly(e.Type) + ", or not at all its locations.")
	}
	return nil
}

func sameDetails(a, b []resource.Element) bool {
	return slices.EqualFunc(a, b, func(x, y resource.Element) bool { return string(x.Raw) == string(y.Raw) })
}

// detailsShown is what consent says of the elements, each at every resource that
// carries it.
func (s *Server) detailsShown(ctx context.Context, a *authRequest) (out []grant.Detail, err error) {
	for _, e := range a.in.Details {
		n := len(out)
		for _, id := range a.in.Resources {
			res, err := s.Resources.Resource(ctx, id)
			if err != nil {
				return nil, err
			}
			if t, ok := res.Details(e.Type); ok && res.Carries(e) {
				out = append(out, grant.Detail{Resource: res.Name, Said: t.Say(e), Fields: e.Fields()})
			}
		}
		if len(out) == n {
			return nil, invalid("interaction_outdated", "What this app may ask for has changed meanwhile.").WithHint("Go back to the app and start again.")
		}
	}
	return out, nil
}

// detailsFor are the elements that a token for a resource carries: of what was granted
// those that the resource has and the client may still ask for, or what the token
// request asks for, which may only be narrower (RFC 9396 §6).
func detailsFor(t *tokenRequest, res *resource.Resource, granted []resource.Element) ([]resource.Element, error) {
	var have []resource.Element
	for _, e := range granted {
		if res != nil && res.Carries(e) && mayDetail(t.client.Client, e.Type) {
			have = append(have, e)
		}
	}
	asked, err := askedDetails(t, res)
	if err != nil || asked == nil {
		return have, err
	}
	if !resource.Narrower(asked, have, res.Details) {
		return nil, badDetails("The token request may only narrow what was granted.")
	}
	return asked, nil
}

// judged is what policies read of elements: of each, by the type of every resource
// that carries it.
func judged(elements []resource.Element, at ...resource.Resource) (d policy.Details) {
	for _, e := range elements {
		d.Types = append(d.Types, e.Type)
		for _, res := range at {
			if t, ok := res.Details(e.Type); ok && res.Carries(e) {
				d.Said = append(d.Said, t.Said(e, func(of string, n *big.Rat) { d.Sizes = append(d.Sizes, policy.SizeOf(of, n)) })...)
			}
		}
	}
	slices.Sort(d.Types)
	d.Types = slices.Compact(d.Types)
	return d
}

// judgedAt is judged for a token, which is for a resource, or for the server itself.
func judgedAt(elements []resource.Element, res *resource.Resource) policy.Details {
	if res == nil {
		return policy.Details{}
	}
	return judged(elements, *res)
}

// askedDetails are the elements that a token request names; nil if it names none.
func askedDetails(t *tokenRequest, res *resource.Resource) ([]resource.Element, error) {
	text := t.form.Get("authorization_details")
	if text == "" {
		return nil, nil
	}
	asked, err := resource.ReadDetails(text)
	if err != nil {
		return nil, err
	}
	if res == nil {
		return nil, badDetails("The token is for no resource that has authorization details.")
	}
	for _, e := range asked {
		if err := fitting(t.client.Client, e, []resource.Resource{*res}); err != nil {
			return nil, err
		}
	}
	return asked, nil
}

// knownTypes remembers for a moment which types there are, for the metadata.
type knownTypes struct {
	mu    sync.Mutex
	until time.Time
	names []string
}

// detailsTypes are the types of all live resources, in order.
func (s *Server) detailsTypes(ctx context.Context) ([]string, error) {
	k := &s.types
	k.mu.Lock()
	defer k.mu.Unlock()
	now := s.now()
	if now.Before(k.until) {
		return k.names, nil
	}
	all, err := s.Resources.Resources(ctx, "", maxResources)
	if err != nil {
		return nil, err
	}
	names := []string{}
	for _, res := range all {
		for _, t := range res.DetailsTypes {
			if res.Node.Live() {
				names = append(names, t.Name)
			}
		}
	}
	slices.Sort(names)
	k.names, k.until = slices.Compact(names), now.Add(5*time.Second)
	return k.names, nil
}
