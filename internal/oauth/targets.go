package oauth

import (
	"context"
	"slices"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/web"
)

// targets reads resource and scope: the resources asked for, or those that the
// scopes belong to, or the client's own; and the scopes, or each resource's
// default ones.
func (s *Server) targets(ctx context.Context, a *authRequest, f web.Form) error {
	scopes, err := scopeList(f.Get("scope"))
	if err != nil {
		return err
	}
	list, err := s.clientResources(ctx, a.client, f.All("resource"))
	if err != nil {
		return err
	}
	a.in.Explicit = len(scopes) > 0 || f.Has("authorization_details") // whoever asks by details gets no default scopes
	for _, res := range list {
		used := len(f.All("resource")) > 0 || !a.in.Explicit
		for _, sc := range res.Scopes {
			switch {
			case !a.in.Explicit && sc.Default && mayAsk(a.client, sc.Name) && !slices.Contains(a.in.Scopes, sc.Name):
				a.in.Scopes = append(a.in.Scopes, sc.Name)
			case slices.Contains(scopes, sc.Name):
				used = true
			}
		}
		if used {
			a.in.Resources = append(a.in.Resources, res.ID)
		}
	}
	for _, name := range scopes {
		known := isIdentity(name)
		for _, res := range list {
			_, ok := res.Scope(name)
			known = known || ok && mayAsk(a.client, name)
		}
		if !known {
			return invalid("invalid_scope", "The app is not registered for the scope "+asciiOnly(name)+".")
		}
	}
	if a.in.Explicit {
		a.in.Scopes = scopes
	}
	return nil
}

// mayAsk reports whether a client is registered for a scope; "*" is any.
func mayAsk(c client.Client, scope string) bool {
	return slices.Contains(c.Scopes, scope) || slices.Contains(c.Scopes, "*")
}

// maxResources is how many resources a request without the parameter is about at
// most.
const maxResources = 64

// clientResources are the resources a request is about: those it names, which
// the client must be registered for, or all the client's own.
func (s *Server) clientResources(ctx context.Context, c client.Client, uris []string) ([]resource.Resource, error) {
	var out []resource.Resource
	if len(uris) == 0 {
		for _, id := range c.Resources {
			if id == "*" { // every resource of the deployment
				all, err := s.Resources.Resources(ctx, "", maxResources)
				if err != nil {
					return nil, err
				}
				for _, res := range all {
					if res.Node.Live() {
						out = append(out, res)
					}
				}
				continue
			}
			res, err := s.Resources.Resource(ctx, id)
			if err != nil {
				return nil, err
			}
			if res.Node.Live() {
				out = append(out, res)
			}
		}
		return out, nil
	}
	for _, uri := range uris {
		res, err := s.Resources.ResourceByURI(ctx, uri)
		if problem.Refusal(err) || err == nil && (!mayUse(c, res.ID) || !res.Node.Live()) {
			return nil, invalid("invalid_target", "The app is not registered for one of the resources it asks for (RFC 8707).")
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o resource.Resource) bool { return o.ID == res.ID }) {
			out = append(out, res)
		}
	}
	return out, nil
}
