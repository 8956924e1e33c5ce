// Package group owns groups of people and services, and who belongs to them.
package group

import (
	"context"
	"time"

	"github.com/countersign-dev/countersign/internal/lineage"
)

// Administrators is the name of the group whose members may manage the
// deployment. It always exists.
const Administrators = "administrators"

// Helpers is the name of the group whose members may give people a temporary
// pass. It exists if an administrator made it.
const Helpers = "helpers"

// Kind says what a group is used for.
type Kind string

// The kinds.
const (
	Plain        Kind = "group"
	Organisation Kind = "organisation" // gives tokens their org
)

// Group is a named set of people.
type Group struct {
	ID        string
	Name      string // unique
	Kind      Kind
	CreatedAt time.Time
	Node      lineage.Node
}

// Create makes a group.
type Create struct{ Group }

// Add makes a person a member; adding a member again changes nothing.
type Add struct{ Group, Person string }

// Remove ends a membership. Removing the last administrator is refused by the
// store's conditional write.
type Remove struct{ Group, Person string }

// Change marks Create as a change.
func (Create) Change() {}

// Change marks Add as a change.
func (Add) Change() {}

// Change marks Remove as a change.
func (Remove) Change() {}

// Store reads groups.
type Store interface {
	Group(ctx context.Context, id string) (Group, error)
	GroupByName(ctx context.Context, name string) (Group, error)
	Groups(ctx context.Context, after string, n int) ([]Group, error)
	GroupsOf(ctx context.Context, person string) ([]Group, error)
	// MemberSince says since when a person belongs to a group; ok is false if they
	// do not. Memberships from before times were kept have the zero time.
	MemberSince(ctx context.Context, group, person string) (at time.Time, ok bool, err error)
	// MemberSubjects lists the OAuth subjects of a group's people after the given one,
	// ascending, at most n.
	MemberSubjects(ctx context.Context, group, after string, n int) ([]string, error)
	// Members lists person ids after the given one, at most n.
	Members(ctx context.Context, group, after string, n int) ([]string, error)
}
