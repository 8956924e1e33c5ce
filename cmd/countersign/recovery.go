package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// recoveryItem is a recovery or temporary pass as the server tells of it.
type recoveryItem struct {
	ID        string     `json:"id"`
	Username  string     `json:"username"`
	Method    string     `json:"method"`
	State     string     `json:"state"`
	Confirmed []string   `json:"confirmed"`
	Needed    int        `json:"needed"`
	StartedAt time.Time  `json:"started_at"`
	ReadyAt   *time.Time `json:"ready_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	CancelURL string     `json:"cancel_url"`
	Pass      string     `json:"pass"`
	EnterURL  string     `json:"enter_url"`
	Lasts     int        `json:"lasts_hours"`
}

// standing says how it stands, in words.
func (r recoveryItem) standing(now time.Time) string {
	switch {
	case r.State != "open":
		return r.State
	case r.ReadyAt == nil:
		return fmt.Sprintf("%d of %d confirmed", len(r.Confirmed), r.Needed)
	case now.Before(*r.ReadyAt):
		return "waits until " + r.ReadyAt.Local().Format("2006-01-02 15:04")
	}
	return "can be used until " + r.ExpiresAt.Local().Format("2006-01-02 15:04")
}

func (a *app) recovery() *cobra.Command {
	return group("recovery", "List, confirm and stop recoveries of people's accounts",
		a.recoveryList(), a.recoveryConfirm(), a.recoveryCancel())
}

func (a *app) recoveryList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List recoveries and temporary passes that are open", Args: cobra.NoArgs, RunE: a.do(func(ctx context.Context, _ []string) error {
		return listed(ctx, a, "/recoveries", "recovery.list/v1", []string{"ID", "USERNAME", "METHOD", "BEGAN", "STATE"}, func(r recoveryItem) []string {
			return []string{r.ID, r.Username, r.Method, since(a.now(), r.StartedAt), r.standing(a.now())}
		})
	})}
}

// changeRecovery posts a change of a recovery and reads what became of it.
func (a *app) changeRecovery(ctx context.Context, x *api, path string, body any) (r recoveryItem, raw map[string]any, err error) {
	answer, err := x.do(ctx, http.MethodPost, path, body, "")
	if err != nil {
		return r, nil, err
	}
	if json.Unmarshal(answer.body, &r) != nil || json.Unmarshal(answer.body, &raw) != nil || r.ID == "" {
		return r, nil, &failure{exit: exitError, code: "bad_answer", message: "The server's answer is no recovery."}
	}
	return r, raw, nil
}

func (a *app) recoveryConfirm() *cobra.Command {
	var code string
	c := &cobra.Command{
		Use: "confirm RECOVERY", Short: "Confirm a recovery that another administrator opened", Args: cobra.ExactArgs(1),
		Long:    "Confirm a recovery that another administrator opened. Talk to the person first and let them read the code on their screen to you; don't take it from the other administrator.",
		Example: "  countersign recovery confirm rcv_01JD --code 7Q4K-M2PX-9TRA-0HJ5",
	}
	c.Flags().StringVar(&code, "code", "", "code that the person reads to you (required)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if code == "" {
			return usage("Give the code that the person reads to you: --code.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		r, raw, err := a.changeRecovery(ctx, x, "/recoveries/"+url.PathEscape(args[0])+"/confirm", map[string]any{"code": code})
		if err != nil {
			return err
		}
		if a.json {
			return a.document("recovery.confirm/v1", raw)
		}
		a.say("The recovery of %s is confirmed: %s.", clean(r.Username), r.standing(a.now()))
		return nil
	})
	return c
}

func (a *app) recoveryCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel RECOVERY", Short: "Stop a recovery, or take a temporary pass back with its session", Args: cobra.ExactArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			r, raw, err := a.changeRecovery(ctx, x, "/recoveries/"+url.PathEscape(args[0])+"/cancel", nil)
			if err != nil {
				return err
			}
			if a.json {
				return a.document("recovery.cancel/v1", raw)
			}
			a.say("It is stopped. %s was told wherever they can be reached.", clean(r.Username))
			return nil
		}),
	}
}

func (a *app) personRecover() *cobra.Command {
	var code, reason string
	c := &cobra.Command{
		Use: "recover PERSON", Short: "Open a recovery for somebody who cannot sign in, which confirms it", Args: cobra.ExactArgs(1),
		Long:    "Open a recovery for somebody who has nothing left to sign in with. By opening it you confirm that it is them; a second administrator has to do the same: countersign recovery confirm.",
		Example: "  countersign person recover sam --code 7Q4K-M2PX-9TRA-0HJ5 --reason 'phone and laptop were stolen'",
	}
	c.Flags().StringVar(&code, "code", "", "code on their screen, at “Ask two administrators” (required)")
	c.Flags().StringVar(&reason, "reason", "", "why, for the record and for them (required)")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if code == "" || reason == "" {
			return usage("Give the code on their screen and a reason: --code, --reason.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		id, err := x.personID(ctx, args[0])
		if err != nil {
			return err
		}
		r, raw, err := a.changeRecovery(ctx, x, "/people/"+url.PathEscape(id)+"/recoveries", map[string]any{"code": code, "reason": reason})
		if err != nil {
			return err
		}
		if a.json {
			return a.document("person.recover/v1", raw)
		}
		a.say("The recovery of %s is open and confirmed by you. A second administrator has to confirm it:", clean(r.Username))
		a.say("  countersign recovery confirm %s --code CODE", clean(r.ID))
		a.say("This link stops it; hand it to them if no message reaches them:")
		_, err = fmt.Fprintln(a.out, clean(r.CancelURL))
		return err
	})
	return c
}

func (a *app) personPass() *cobra.Command {
	var reason string
	var valid, lasts time.Duration
	c := &cobra.Command{
		Use: "temporary-pass PERSON", Short: "Print a pass with which somebody signs in once, for a few hours", Args: cobra.ExactArgs(1),
		Long:    "Print a pass for somebody who cannot reach their passkey today. Make sure that it is them. It signs them in once; they cannot change how they sign in with it. Administrators get none.",
		Example: "  countersign person temporary-pass sam --reason 'left the key at home'",
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the record and for them (required)")
	c.Flags().DurationVar(&valid, "valid", time.Hour, "to be used within: 1h to 24h")
	c.Flags().DurationVar(&lasts, "lasts", 8*time.Hour, "signs in for at most: 1h to 12h")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		switch {
		case reason == "":
			return usage("Say why: --reason.")
		case valid%time.Hour != 0 || lasts%time.Hour != 0 || valid < time.Hour || lasts < time.Hour:
			return usage("--valid and --lasts are whole hours.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		id, err := x.personID(ctx, args[0])
		if err != nil {
			return err
		}
		r, raw, err := a.changeRecovery(ctx, x, "/people/"+url.PathEscape(id)+"/temporary-passes",
			map[string]any{"reason": reason, "valid_hours": int(valid / time.Hour), "lasts_hours": int(lasts / time.Hour)})
		if err != nil {
			return err
		}
		if a.json {
			return a.document("person.temporary-pass/v1", raw)
		}
		a.say("Tell this pass to %s in a way that only they can hear or read. It works once, at %s, for %s:", clean(r.Username), clean(r.EnterURL), span(time.Until(r.ExpiresAt)))
		if _, err := fmt.Fprintln(a.out, clean(r.Pass)); err != nil {
			return err
		}
		a.say("It signs them in for %s hours at most. To take it back: countersign recovery cancel %s", strconv.Itoa(r.Lasts), clean(r.ID))
		return nil
	})
	return c
}
