package view

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/a-h/templ"
)

// described lists the ids that explain a field, for aria-describedby.
func described(id, hint string, in Input) string {
	s := ""
	if in.Error != "" {
		s = id + "-wrong"
	}
	if hint != "" {
		if s != "" {
			s += " "
		}
		s += id + "-hint"
	}
	return s
}

func countWrong(ins []Input) int {
	n := 0
	for _, in := range ins {
		if in.Error != "" {
			n++
		}
	}
	return n
}

func copyLabel(c Command) string {
	if c.What == "" {
		return "the command"
	}
	return c.What
}

func intText(n int) string { return strconv.Itoa(n) }

// roleClause ends the invitation's sentence.
func roleClause(role string) string {
	if role == "" {
		return "."
	}
	return ", as " + Visible(role, nameLimit) + "."
}

func userName(p Page) string {
	if p.User == nil {
		return "you"
	}
	return name(p.User.Name)
}

func spaced(parts []string) string { return strings.Join(parts, " ") }

func (n Node) hasMeta() bool {
	return n.Resource != "" || len(n.Scopes) > 0 || n.Assurance != "" || n.Network != "" || n.ID != "" ||
		!n.StartedAt.IsZero() || !n.LastUsedAt.IsZero() || !n.ExpiresAt.IsZero()
}

// bare is the node without its buttons.
func (n Node) bare() Node {
	n.EndURL = ""
	kids := make([]Node, len(n.Children))
	for i, c := range n.Children {
		kids[i] = c.bare()
	}
	n.Children = kids
	return n
}

// confirmText names what the button ends.
func (m EndNode) confirmText() string {
	if e := m.Node.Ends(); e != "" && m.Node.Kind != PersonNode {
		return "End it and " + e
	}
	return "End " + m.object()
}

// sentence writes text with a component in the place of each %: the spaces are
// exactly those of the text. The text is escaped.
func sentence(s string, parts ...templ.Component) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		for i, text := range strings.Split(s, "%") {
			if i > 0 {
				if err := parts[i-1].Render(ctx, w); err != nil {
					return err
				}
			}
			if _, err := io.WriteString(w, templ.EscapeString(text)); err != nil {
				return err
			}
		}
		return nil
	})
}

// newName is what the rename field holds.
func (k Passkey) newName() Input {
	if k.NewName.Error == "" {
		return Input{Value: k.Name}
	}
	return k.NewName
}
