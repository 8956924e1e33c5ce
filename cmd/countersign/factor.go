package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// factorItem is a way to sign in as the server lists it.
type factorItem struct {
	ID             string    `json:"id"`
	Kind           string    `json:"kind"`
	Name           string    `json:"name"`
	CreatedAt      time.Time `json:"created_at"`
	LastUsedAt     time.Time `json:"last_used_at"`
	ProbationUntil time.Time `json:"probation_until"`
}

func (a *app) factor() *cobra.Command {
	return group("factor", "List ways to sign in, take one away, and say which people may use",
		a.factorList(), a.factorRemove(), a.factorSwitch("allow", true), a.factorSwitch("forbid", false))
}

func (a *app) factorList() *cobra.Command {
	var person string
	c := &cobra.Command{Use: "list", Short: "List your ways to sign in, or somebody's", Args: cobra.NoArgs}
	c.Flags().StringVar(&person, "person", "", "somebody else, by user name or id")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		path := "/factors"
		if person != "" {
			id, err := x.personID(ctx, person)
			if err != nil {
				return err
			}
			path += "?person=" + url.QueryEscape(id)
		}
		raw, factors, err := items[factorItem](ctx, x, path)
		if err != nil {
			return err
		}
		if a.json {
			return a.document("factor.list/v1", map[string]any{"items": raw})
		}
		var rows [][]string
		for _, f := range factors {
			note := ""
			if !f.ProbationUntil.IsZero() {
				note = "on probation for " + span(f.ProbationUntil.Sub(a.now()))
			}
			rows = append(rows, []string{f.ID, f.Kind, f.Name, since(a.now(), f.CreatedAt), since(a.now(), f.LastUsedAt), note})
		}
		a.list([]string{"ID", "KIND", "NAME", "ADDED", "LAST USED", ""}, rows)
		return nil
	})
	return c
}

func (a *app) factorRemove() *cobra.Command {
	var weaken bool
	c := &cobra.Command{
		Use: "remove PERSON FACTOR", Short: "Take a way to sign in from somebody: sessions that began with it end at once",
		Example: "  countersign factor list --person sam\n  countersign factor remove sam cred_01JD…",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().BoolVar(&weaken, "weaken", false, "also if it is their last passkey and a password with a code is left")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		id, err := x.personID(ctx, args[0])
		if err != nil {
			return err
		}
		path := "/people/" + url.PathEscape(id) + "/factors/" + url.PathEscape(args[1])
		if weaken {
			path += "?weaken=true"
		}
		if _, err := x.do(ctx, http.MethodDelete, path, nil, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("factor.remove/v1", map[string]any{"person": id, "id": args[1]})
		}
		a.say("%s can't sign in with it any more.", clean(args[0]))
		return nil
	})
	return c
}

// factorSwitch is allow and forbid.
func (a *app) factorSwitch(verb string, on bool) *cobra.Command {
	short := map[bool]string{true: "Let people sign in with password or totp", false: "Stop people from signing in with password or totp"}[on]
	return &cobra.Command{Use: verb + " KIND", Short: short, Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		x, err := a.api()
		if err != nil {
			return err
		}
		if _, err := x.do(ctx, http.MethodPut, "/factor-kinds/"+url.PathEscape(args[0]), map[string]any{"allowed": on}, ""); err != nil {
			return err
		}
		if a.json {
			return a.document("factor."+verb+"/v1", map[string]any{"kind": args[0], "allowed": on})
		}
		a.say("%s: %s.", clean(args[0]), map[bool]string{true: "allowed", false: "off"}[on])
		return nil
	})}
}

// maxImportLine is the longest line of an import, in bytes.
const maxImportLine = 64 << 10

func (a *app) personImport() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Make people of another system with the hashes of their passwords",
		Long: `Reads a JSON object a line: name, username, password_hash (bcrypt, or argon2, scrypt or
PBKDF2 in PHC string form), and perhaps email and groups. "-" is standard input. Whose
user name is taken stays as they are, so the same file can be given again.`,
		Example: "  countersign person import people.jsonl",
		Args:    cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			in := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usage("The file can't be read: %v.", err)
				}
				defer f.Close()
				in = f
			}
			x, err := a.api()
			if err != nil {
				return err
			}
			made, there, err := a.importPeople(ctx, x, in)
			if err != nil {
				return err
			}
			if a.json {
				return a.document("person.import/v1", map[string]any{"imported": made, "skipped": there})
			}
			a.say("Imported %d people; %d user names were taken already.", made, there)
			return nil
		}),
	}
}

// importPeople sends each line of in; made were imported, there had been before.
func (a *app) importPeople(ctx context.Context, x *api, in io.Reader) (made, there int, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxImportLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		var person map[string]any
		if err := json.Unmarshal([]byte(text), &person); err != nil {
			return made, there, usage("Line %d is no JSON object. %d people were imported before it.", n, made)
		}
		if _, err := x.do(ctx, http.MethodPost, "/people", person, ""); err != nil {
			f := failureOf(err)
			if f.code != "username_taken" {
				f.message = fmt.Sprintf("Line %d: %s %d people were imported before it.", n, f.message, made)
				return made, there, f
			}
			there++
		} else {
			made++
		}
		if (made+there)%100 == 0 {
			a.say("%d lines …", made+there)
		}
	}
	if err := lines.Err(); err != nil {
		return made, there, fmt.Errorf("read the import: %w", err)
	}
	return made, there, nil
}
