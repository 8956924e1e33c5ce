package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-dev/countersign/clilogin"
)

// publication is a set that waits to be signed, or was handed in, as the server tells it.
type publication struct {
	ID          string    `json:"id"`
	State       string    `json:"state"`
	Hash        string    `json:"hash"`
	After       int64     `json:"after"`
	Waves       []wave    `json:"waves"`
	Note        string    `json:"note"`
	SubmittedBy string    `json:"submitted_by"`
	SubmittedAt time.Time `json:"submitted_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	SignURI     string    `json:"sign_uri"`
	SignedBy    string    `json:"signed_by"`
	Version     int64     `json:"version"`
	Rollout     int64     `json:"rollout"`
}

// The states of one that is open, and of one that the page put in force.
const (
	unsigned   = "unsigned"
	signed     = "signed"
	carriedOut = "carried_out"
)

// waiting is how long a command waits for a signature.
type waiting struct {
	long   time.Duration
	noWait bool
	again  string // the command that goes on
}

// flags adds those of a command that waits.
func (w *waiting) flags(c *cobra.Command) {
	c.Flags().DurationVar(&w.long, "wait", 30*time.Minute, "how long to wait for a signature; 0: not at all")
	c.Flags().BoolVar(&w.noWait, "no-wait", false, "do not wait for a signature: exit 5")
}

func (w *waiting) check() error {
	if w.long < 0 {
		return usage("--wait is a length of time such as 30m, or 0.")
	}
	if w.noWait {
		w.long = 0
	}
	return nil
}

// badPublication is what the server says that cannot be read, or leads elsewhere.
func badPublication() error {
	return &failure{exit: exitError, code: "bad_answer", message: "What the server says of the signature cannot be read."}
}

// publication reads one.
func (x *api) publication(ctx context.Context, id string) (p publication, err error) {
	r, err := x.do(ctx, http.MethodGet, "/publications/"+url.PathEscape(id), nil, "")
	if err == nil && (json.Unmarshal(r.body, &p) != nil || p.ID != id) {
		err = badPublication()
	}
	return p, err
}

// open finds a publication of a set that is open after a version, for which same holds.
func (x *api) open(ctx context.Context, after int64, hash string, same func(*publication) bool) (*publication, error) {
	r, err := x.do(ctx, http.MethodGet, "/publications?limit="+strconv.Itoa(pageSize), nil, "") // they are few, the newest first
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []publication `json:"items"`
	}
	if json.Unmarshal(r.body, &page) != nil {
		return nil, badPublication()
	}
	i := slices.IndexFunc(page.Items, func(p publication) bool {
		return p.After == after && p.Hash == hash && (p.State == unsigned || p.State == signed) && same(&p)
	})
	if i < 0 {
		return nil, nil
	}
	return &page.Items[i], nil
}

// forward hands a set in and gives the version, or the rollout, that it became, which it
// waits for: a person has to sign it, and may put it in force on the page as well.
func (a *app) forward(ctx context.Context, x *api, path string, body map[string]any, w waiting) (reply, error) {
	r, err := x.do(ctx, http.MethodPost, path, body, "")
	for range 2 { // what was signed can have been withdrawn, or have ended, before it is carried out
		if err != nil || r.status != http.StatusAccepted {
			return r, err
		}
		var p publication
		if json.Unmarshal(r.body, &p) != nil {
			return r, badPublication()
		}
		if p, err = a.signature(ctx, x, p, w); err != nil {
			return r, err
		}
		if p.State == signed {
			r, err = x.do(ctx, http.MethodPost, path, body, "")
		}
		if now, e := x.publication(ctx, p.ID); e == nil && now.State == carriedOut && (p.State != signed || err != nil) {
			return x.became(ctx, now) // on the page
		}
	}
	if err == nil && r.status == http.StatusAccepted {
		err = over("The signature counted no more when the policies were to come into force.", w.again)
	}
	return r, err
}

// became reads the version, or the rollout, that was made of a publication.
func (x *api) became(ctx context.Context, p publication) (reply, error) {
	path := "/policies/" + strconv.FormatInt(p.Version, 10)
	if p.Rollout > 0 {
		path = "/rollouts/" + strconv.FormatInt(p.Rollout, 10)
	}
	return x.do(ctx, http.MethodGet, path, nil, "")
}

func over(message, again string) error {
	return &failure{exit: exitDenied, code: "publication_over", message: message, fix: again}
}

// The time between two looks at whether somebody has signed.
const (
	firstLook = 200 * time.Millisecond
	laterLook = 3 * time.Second
)

// signature asks for one, and waits until it is there.
func (a *app) signature(ctx context.Context, x *api, p publication, w waiting) (publication, error) {
	if p.State == signed {
		return p, nil
	}
	if p.ID == "" || p.State != unsigned || !under(p.SignURI, x.base) {
		return p, badPublication()
	}
	f := &failure{
		exit: exitStepUp, code: "signature_needed", url: p.SignURI, fix: w.again,
		message: fmt.Sprintf("%s waits until somebody has signed it at %s. Then the same command puts it in force.", p.Hash, p.SignURI),
	}
	if w.long == 0 {
		return p, f
	}
	a.askToSign(x, &p)
	until := a.now().Add(w.long)
	if p.ExpiresAt.Before(until) {
		until = p.ExpiresAt
	}
	told := a.now()
	for pause := firstLook; ; pause = min(pause*3/2, laterLook) {
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-time.After(pause):
		}
		seen, err := x.publication(ctx, p.ID)
		now := a.now()
		switch {
		case err == nil:
			p = seen
		case failureOf(err).exit != exitUnreachable || !now.Before(until): // a server that is away for a moment does not end half an hour's wait
			return p, err
		}
		switch {
		case p.State == signed, p.State == carriedOut:
			a.say("Signed by %s.", clean(p.SignedBy))
			return p, nil
		case p.State != unsigned:
			return p, over(fmt.Sprintf("%s is %s: nothing of it comes into force.", p.ID, p.State), w.again)
		case !now.Before(until):
			f.exit, f.code = exitTimedOut, clilogin.CodeTimedOut
			return p, f
		case now.Sub(told) >= time.Minute:
			told = now
			a.say("Still waiting for a signature, until %s.", clock(until))
		}
	}
}

// askToSign says where to sign, and opens the page for a person.
func (a *app) askToSign(x *api, p *publication) {
	opens := x.service == nil && a.asks && clilogin.CanOpenBrowser()
	if opens {
		a.say("A person has to sign this. Opening your browser; if nothing opens, visit:")
	} else {
		a.say("A person has to sign this, at:")
	}
	a.say("  %s", (&terminal{app: a}).link(clean(p.SignURI)))
	a.say("Waiting for the signature; Ctrl-C stops, and the same command goes on.")
	if !opens {
		return
	}
	if err := clilogin.OpenBrowser(p.SignURI); err != nil {
		a.say("The browser did not open (%v): visit the address above.", err)
	}
}

// under reports whether a page is of the issuer whose API is at base: the browser is
// opened at no other.
func under(page, base string) bool {
	u, err := url.Parse(page)
	b, failed := url.Parse(base)
	return err == nil && failed == nil && u.Scheme == b.Scheme && u.Host == b.Host && u.User == nil
}

func (a *app) policySign() *cobra.Command {
	var note string
	var yes bool
	var w waiting
	c := &cobra.Command{
		Use:   "sign DIR",
		Short: "Sign the policies in a directory, so that something else may put them in force",
		Long: `Sign the policies in DIR, and put nothing in force: whoever may hand policies in does
that within the hour, such as a pipeline with countersign policy publish DIR. What is
signed is the hash of these policies, to follow the version that is in force now. The
page wants your passkey, and refuses policies under which you could not sign others.`,
		Example: "  countersign policy sign ./policies --note \"deploys need a passkey\"",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&note, "note", "", "why, in a line")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(c)
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		w.again = "countersign policy sign " + args[0]
		if err := w.check(); err != nil {
			return err
		}
		b, x, v, err := a.differing(ctx, args, yes, "Sign", w.again)
		if err != nil {
			return err
		}
		p, err := x.open(ctx, v.Version, b.source.Hash(), func(p *publication) bool { return len(p.Waves) == 0 })
		if err != nil {
			return err
		}
		if p == nil {
			r, err := x.do(ctx, http.MethodPost, "/policies", bodyOf(b, v.Version, note), "")
			if err != nil {
				return err
			}
			p = &publication{}
			if r.status != http.StatusAccepted || json.Unmarshal(r.body, p) != nil {
				return badPublication()
			}
		}
		done, err := a.signature(ctx, x, *p, w)
		if err != nil {
			return err
		}
		if a.json {
			return a.document("policy.sign/v1", map[string]any{"publication": done.ID, "state": done.State, "hash": done.Hash, "after": done.After, "signed_by": done.SignedBy, "until": done.ExpiresAt})
		}
		if done.State == carriedOut {
			a.say("%s is signed, and in force as version %d.", done.Hash, done.Version)
			return nil
		}
		a.say("%s is signed. Until %s it is put in force with: countersign policy publish %s", done.Hash, clock(done.ExpiresAt), args[0])
		return nil
	})
	return c
}

func (a *app) policyPublications() *cobra.Command {
	return &cobra.Command{
		Use: "publications", Short: "List what was handed in to be signed, newest first", Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			x, err := a.policyAPI(ctx)
			if err != nil {
				return err
			}
			raw, all, err := items[publication](ctx, x, "/publications")
			if err != nil {
				return err
			}
			if a.json {
				return a.document("policy.publications/v1", map[string]any{"items": raw})
			}
			var rows [][]string
			for _, p := range all {
				how := "at once"
				if n := len(p.Waves); n > 0 {
					how = fmt.Sprintf("in %d waves", n)
				}
				became := ""
				switch {
				case p.Version > 0:
					became = fmt.Sprintf("version %d", p.Version)
				case p.Rollout > 0:
					became = fmt.Sprintf("rollout %d", p.Rollout)
				case p.State == unsigned:
					became = p.SignURI
				}
				rows = append(rows, []string{p.ID, p.State, p.ExpiresAt.Format(time.DateTime), strconv.FormatInt(p.After, 10), how, p.SubmittedBy, p.SignedBy, became, p.Note})
			}
			a.list([]string{"ID", "STATE", "UNTIL", "AFTER", "HOW", "HANDED IN BY", "SIGNED BY", "BECAME", "NOTE"}, rows)
			return nil
		}),
	}
}

func (a *app) policyWithdraw() *cobra.Command {
	return &cobra.Command{
		Use: "withdraw ID", Short: "Withdraw what waits to be signed, or is signed and not in force", Example: "  countersign policy withdraw pub_01JD…",
		Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.policyAPI(ctx)
			if err != nil {
				return err
			}
			r, err := x.do(ctx, http.MethodPost, "/publications/"+url.PathEscape(args[0])+"/withdraw", nil, "")
			if err != nil {
				return err
			}
			if a.json {
				return a.document("policy.withdraw/v1", map[string]any{"publication": json.RawMessage(r.body)})
			}
			a.say("%s is withdrawn.", clean(args[0]))
			return nil
		}),
	}
}
