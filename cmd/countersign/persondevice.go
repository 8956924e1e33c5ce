package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// deviceItem is a browser that somebody signed in from, as the server lists it.
type deviceItem struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	Network    string       `json:"network"`
	CreatedAt  time.Time    `json:"created_at"`
	LastSeenAt time.Time    `json:"last_seen_at"`
	Managed    *managedMark `json:"managed"`
}

// managedMark is what is said of a managed device.
type managedMark struct {
	Until time.Time `json:"until"`
	Asset string    `json:"asset"`
	By    string    `json:"by"`
}

func (m *managedMark) by() string {
	if m == nil {
		return ""
	}
	return m.By
}

// managed says until when a device is a managed one, and what it is called.
func (d deviceItem) managed() string {
	if d.Managed == nil {
		return "-"
	}
	text := "until " + d.Managed.Until.Local().Format(time.DateOnly)
	if d.Managed.Asset != "" {
		text += ", " + d.Managed.Asset
	}
	return text
}

func (a *app) personDevice() *cobra.Command {
	list := &cobra.Command{Use: "list PERSON", Short: "List the devices that a person has signed in from", Args: cobra.ExactArgs(1), RunE: a.do(func(ctx context.Context, args []string) error {
		return listed(ctx, a, devicesPath(args[0]), "person.device.list/v1", []string{"ID", "NAME", "MANAGED", "NETWORK", "FIRST SEEN", "LAST SEEN"}, func(d deviceItem) []string {
			return []string{d.ID, d.Name, d.managed(), d.Network, since(a.now(), d.CreatedAt), since(a.now(), d.LastSeenAt)}
		})
	})}
	unmanage := &cobra.Command{
		Use: "unmanage PERSON DEVICE", Short: "Take back that a device is a managed one", Args: cobra.ExactArgs(2), RunE: a.do(func(ctx context.Context, args []string) error {
			x, err := a.api()
			if err != nil {
				return err
			}
			if _, err := x.do(ctx, http.MethodDelete, managedPath(args), nil, ""); err != nil {
				return err
			}
			if a.json {
				return a.document("person.device.unmanage/v1", map[string]any{"id": args[1]})
			}
			a.say("%s is no managed device of %s any more.", clean(args[1]), clean(args[0]))
			return nil
		}),
	}
	return group("device", "Say which devices of a person are managed ones", list, a.personDeviceManage(), unmanage, a.personDeviceMarked())
}

// markedItem is a managed device, and whose it is.
type markedItem struct {
	deviceItem
	Person string `json:"person"`
}

func (a *app) personDeviceMarked() *cobra.Command {
	var by string
	c := &cobra.Command{
		Use:   "marked",
		Short: "List the managed devices of everybody, or those that one person or service called so",
		Long: `List the managed devices of everybody, or with --by those that one person or service
called so. What somebody said of others' devices stays when they are disabled: take it back
with countersign person device unmanage.`,
		Example: "  countersign person device marked --by svc_01JD3V8XQ2ZK7W5N4M9R6T1B0C",
		Args:    cobra.NoArgs,
	}
	c.Flags().StringVar(&by, "by", "", "id of the person or service that called them so")
	c.RunE = a.do(func(ctx context.Context, _ []string) error {
		path := "/devices"
		if by != "" {
			path += "?" + url.Values{"marked_by": {by}}.Encode()
		}
		return listed(ctx, a, path, "person.device.marked/v1", []string{"PERSON", "ID", "NAME", "MANAGED", "BY", "LAST SEEN"}, func(d markedItem) []string {
			return []string{d.Person, d.ID, d.Name, d.managed(), d.Managed.by(), since(a.now(), d.LastSeenAt)}
		})
	})
	return c
}

func (a *app) personDeviceManage() *cobra.Command {
	var days int
	var asset string
	c := &cobra.Command{
		Use:     "manage PERSON DEVICE",
		Short:   "Say that a device of a person is a managed one, for a number of days",
		Example: "  countersign person device manage sam@example.com dev_01JD3V8XQ2ZK7W5N4M9R6T1B0C --days 90 --asset LT-0042",
		Args:    cobra.ExactArgs(2),
	}
	c.Flags().IntVar(&days, "days", 90, "for how long, 400 at most")
	c.Flags().StringVar(&asset, "asset", "", "what your inventory calls it")
	c.RunE = a.do(func(ctx context.Context, args []string) error {
		if days < 1 || days > 400 {
			return usage("--days is between 1 and 400.")
		}
		x, err := a.api()
		if err != nil {
			return err
		}
		body := map[string]any{"until": a.now().UTC().Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Second)}
		if asset != "" {
			body["asset"] = asset
		}
		r, err := x.do(ctx, http.MethodPut, managedPath(args), body, "")
		if err != nil {
			return err
		}
		var d deviceItem
		var raw map[string]any
		if json.Unmarshal(r.body, &d) != nil || json.Unmarshal(r.body, &raw) != nil || d.Managed == nil {
			return &failure{exit: exitError, code: "bad_answer", message: "The server's answer is no managed device."}
		}
		if a.json {
			return a.document("person.device.manage/v1", raw)
		}
		a.say("%s, %s, is a managed device of %s %s.", clean(d.ID), clean(d.Name), clean(args[0]), clean(d.managed()))
		return nil
	})
	return c
}

func devicesPath(person string) string { return "/people/" + url.PathEscape(person) + "/devices" }

func managedPath(args []string) string {
	return devicesPath(args[0]) + "/" + url.PathEscape(args[1]) + "/managed"
}
