package clilogin

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/problem"
)

// DevicePrompter is a Prompter that can show what a device is told while it
// waits. It MUST return at once.
type DevicePrompter interface {
	Prompter
	// Confirm shows the code that the browser has to be told where it is on
	// another network. It is called when the code is known, once per prompt.
	Confirm(code string)
}

// byCode signs in with a code that is typed into a browser elsewhere (RFC 8628).
// One that expires is replaced for as long as ctx lets.
func (p *Profile) byCode(ctx context.Context, a authorization) (*Credential, error) {
	client := p.tokenClient(a.meta, a.clientID, a.key)
	host, err := os.Hostname()
	if err != nil || len(host) > 64 {
		host = ""
	}
	for {
		d, err := client.Device(ctx, countersign.DeviceRequest{Scope: a.scope, Resources: a.resources, ACR: a.acr, MaxAge: a.maxAge, Host: host})
		switch {
		case errors.Is(err, errors.ErrUnsupported), countersign.IsCode(err, "unauthorized_client"):
			return nil, fault(problem.Denied, CodeDeviceOff, "This server does not sign in devices by code.").
				WithHint(p.Store.loginCommand(p.Name) + " --no-browser   (and an ssh tunnel, which it tells)").Because(err)
		case err != nil:
			return nil, timedOut(refused(err))
		}
		page := d.Complete
		if page == "" {
			page = d.URI
		}
		if err := a.prompter.Ask(Prompt{URL: page, Until: d.ExpiresAt, Issuer: a.meta.Issuer, Code: d.UserCode, CodeURL: d.URI}); err != nil {
			return nil, err
		}
		answer, err := p.await(ctx, client, d, a)
		if countersign.IsCode(err, "expired_token") {
			continue
		}
		if err != nil {
			return nil, timedOut(err)
		}
		return p.credential(a, answer)
	}
}

// await polls until there is an answer. A server that fails is asked again: the
// person may have answered by then.
func (p *Profile) await(ctx context.Context, client *countersign.TokenClient, d countersign.DeviceCodes, a authorization) (countersign.Credential, error) {
	told := ""
	for {
		select {
		case <-ctx.Done():
			return countersign.Credential{}, ctx.Err()
		case <-time.After(d.Interval):
		}
		answer, err := client.DeviceToken(ctx, d, a.audience)
		var r *countersign.ResponseError
		switch {
		case err == nil:
			return answer, nil
		case !errors.As(err, &r) && ctx.Err() == nil, errors.As(err, &r) && r.Status >= 500:
			if p.now().After(d.ExpiresAt) {
				return answer, network(err)
			}
			continue
		case countersign.IsCode(err, "slow_down"):
			d.Interval += countersign.SlowDown
		case countersign.IsCode(err, "authorization_pending"):
		case countersign.IsCode(err, "expired_token"):
			return answer, err
		case countersign.IsCode(err, "access_denied"):
			return answer, withReference(fault(problem.Denied, CodeDenied, "The sign-in was refused in the browser.").Because(err), r.Ref)
		default:
			return answer, refused(err)
		}
		if show, ok := a.prompter.(DevicePrompter); ok && r.Confirm != "" && r.Confirm != told {
			told = r.Confirm
			show.Confirm(told)
		}
	}
}
