package admin

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/problem"
)

// ServiceSpec says what a service account is to be.
type ServiceSpec struct {
	Name     string   `json:"name,omitempty" maxLength:"80" doc:"The client's, if left out"`
	Owner    string   `json:"owner,omitempty" maxLength:"64" doc:"Who answers for it: a user name or person id"`
	Purpose  string   `json:"purpose,omitempty" maxLength:"200" doc:"What it is for"`
	ReviewBy string   `json:"review_by,omitempty" maxLength:"35" doc:"By when it must be reviewed, e.g. 2027-01-31"`
	Groups   []string `json:"groups,omitempty" maxItems:"20" doc:"Names"`
}

// Service is the service account that a client acts as.
type Service struct {
	ID       string   `json:"id"`
	Subject  string   `json:"sub"`
	Name     string   `json:"name"`
	Owner    string   `json:"owner" doc:"User name, or the id of somebody who is gone"`
	Purpose  string   `json:"purpose"`
	ReviewBy string   `json:"review_by"`
	Groups   []string `json:"groups" nullable:"false" doc:"Names"`
}

func (a *API) viewService(ctx context.Context, id string) (*Service, error) {
	s, err := a.Registry.Service(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &Service{ID: s.ID, Subject: s.Subject, Name: s.Name, Owner: s.Owner, Purpose: s.Purpose, ReviewBy: s.ReviewBy.UTC().Format(time.DateOnly), Groups: []string{}}
	switch p, err := a.Directory.Person(ctx, s.Owner); {
	case err == nil:
		v.Owner = p.Username
	case !problem.Refusal(err):
		return nil, err
	}
	for _, g := range s.Groups {
		gr, err := a.Directory.Group(ctx, g)
		if err != nil {
			return nil, err
		}
		v.Groups = append(v.Groups, gr.Name)
	}
	return v, nil
}

// newService reads what a service account is to be; somebody has to answer for
// it, and look at it again.
func (a *API) newService(ctx context.Context, s ServiceSpec, cl client.Client) (*client.Service, error) {
	v := &client.Service{ID: id.New(id.Service), Subject: id.Random("sub_"), Name: s.Name, Purpose: s.Purpose, CreatedAt: a.now()}
	if v.Name == "" {
		v.Name = cl.Name
	}
	bad := func(what string) error { return problem.New(problem.Invalid, "service_invalid", what) }
	if s.Owner == "" || s.Purpose == "" || s.ReviewBy == "" {
		return nil, bad("A service has an owner, a purpose and a date by which it is reviewed (review_by).")
	}
	if !plainText(v.Name) || !plainText(v.Purpose) {
		return nil, bad("A service's name and purpose have no control characters, and no space at their ends.")
	}
	var err error
	if v.ReviewBy, err = readDate(s.ReviewBy); err != nil || !v.ReviewBy.After(a.now()) || v.ReviewBy.After(a.now().AddDate(2, 0, 0)) {
		return nil, bad("review_by is a date such as 2027-01-31, in the future and within two years.")
	}
	find := a.Directory.PersonByUsername
	if strings.HasPrefix(s.Owner, id.Person) {
		find = a.Directory.Person
	}
	owner, err := find(ctx, s.Owner)
	if err != nil {
		return nil, unknownIs(err, problem.Newf(problem.Invalid, "owner_unknown", "There is nobody with the user name %.64q.", s.Owner))
	}
	if !owner.Node.Live() {
		return nil, bad("The owner is disabled.")
	}
	v.Owner = owner.ID
	for _, name := range slices.Compact(slices.Sorted(slices.Values(s.Groups))) {
		g, err := a.groupNamed(ctx, name)
		if err != nil {
			return nil, err
		}
		v.Groups = append(v.Groups, g.ID)
	}
	return v, nil
}

func readDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	return t.UTC(), err
}

// sameService refuses a spec that says another service than there is: a service
// is made with its client.
func (a *API) sameService(ctx context.Context, spec *ServiceSpec, serviceID string) error {
	if spec == nil {
		return nil
	}
	fixed := problem.New(problem.Conflict, "service_fixed", "A client's service is made with it and cannot be changed: leave it out, or register another client.")
	if serviceID == "" {
		return fixed
	}
	have, err := a.viewService(ctx, serviceID)
	if err != nil {
		return err
	}
	s, err := a.Registry.Service(ctx, serviceID)
	if err != nil {
		return err
	}
	differs := func(want, have string) bool { return want != "" && want != have }
	review, _ := readDate(spec.ReviewBy)
	groups := slices.Sorted(slices.Values(spec.Groups))
	if differs(spec.Name, have.Name) || spec.Owner != s.Owner && differs(spec.Owner, have.Owner) || differs(spec.Purpose, have.Purpose) ||
		spec.ReviewBy != "" && review.Format(time.DateOnly) != have.ReviewBy ||
		spec.Groups != nil && !slices.Equal(groups, slices.Sorted(slices.Values(have.Groups))) {
		return fixed
	}
	return nil
}
