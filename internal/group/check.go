package group

import (
	"context"

	"github.com/countersign-dev/countersign/internal/problem"
)

// CheckName reads a group's name: 1 to 64 lower-case letters, digits and . _ -,
// beginning with a letter or digit. It stands in policies, tokens and files.
func CheckName(s string) error {
	ok := s != "" && len(s) <= 64
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && (c == '.' || c == '_' || c == '-'))
	}
	if !ok {
		return problem.New(problem.Invalid, "name_invalid", "A group's name has 1 to 64 characters: lower-case letters, digits and . _ -")
	}
	return nil
}

// CheckLive refuses the name of a group that does not exist (problem.NotFound,
// group_not_found) or was ended.
func CheckLive(ctx context.Context, s Store, name string) error {
	g, err := s.GroupByName(ctx, name)
	if err != nil {
		return err
	}
	if !g.Node.Live() {
		return problem.Newf(problem.NotFound, "group_not_found", "The group %q was ended.", name)
	}
	return nil
}
