package countersign

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DeviceRequest is what a device without a browser asks for (RFC 8628 section
// 3.1).
type DeviceRequest struct {
	Scope     []string       // empty: the server's default for the client
	Resources []string       // likewise (RFC 8707)
	ACR       []string       // sufficient values
	MaxAge    *time.Duration // how old the person's proof may be; nil: as the server wants
	Host      string         // what the person calls this machine: shown to them, at most 64 bytes
}

// DeviceCodes is what a device shows, and what it polls with (RFC 8628 section
// 3.2).
type DeviceCodes struct {
	UserCode  string        // for the person
	URI       string        // where they type it
	Complete  string        // the same with the code in it; "" if there is none
	ExpiresAt time.Time     // nobody can answer after
	Interval  time.Duration // between two polls at least

	code string
}

// SlowDown is how much longer a device waits between polls from then on, when it
// is told slow_down (RFC 8628 section 3.5).
const SlowDown = 5 * time.Second

// Device asks for codes. A refusal is a *ResponseError. ErrUnsupported is in the
// error's chain if the server does not sign devices in.
func (c *TokenClient) Device(ctx context.Context, r DeviceRequest) (DeviceCodes, error) {
	if c.Metadata.DeviceAuthorizationEndpoint == "" {
		return DeviceCodes{}, fmt.Errorf("countersign: device authorization: %w", errors.ErrUnsupported)
	}
	form := url.Values{}
	setIf(form, "scope", strings.Join(r.Scope, " "))
	setIf(form, "acr_values", strings.Join(r.ACR, " "))
	setIf(form, "host", r.Host)
	if len(r.Resources) > 0 {
		form["resource"] = r.Resources
	}
	if r.MaxAge != nil {
		form.Set("max_age", strconv.FormatInt(int64(*r.MaxAge/time.Second), 10))
	}
	var doc struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URI        string `json:"verification_uri"`
		Complete   string `json:"verification_uri_complete"`
		ExpiresIn  int64  `json:"expires_in"`
		Interval   int64  `json:"interval"`
	}
	before := c.now()
	if err := c.post(ctx, c.Metadata.DeviceAuthorizationEndpoint, form, &doc); err != nil {
		return DeviceCodes{}, fmt.Errorf("countersign: device authorization: %w", err)
	}
	for _, page := range []string{doc.URI, doc.Complete} {
		u, err := url.Parse(page)
		if err != nil || page != "" && !safeURL(u) {
			return DeviceCodes{}, errors.New("countersign: device authorization: the answer names a page that is not usable")
		}
	}
	if doc.DeviceCode == "" || doc.UserCode == "" || doc.URI == "" || doc.ExpiresIn <= 0 || doc.Interval < 0 {
		return DeviceCodes{}, errors.New("countersign: device authorization: the answer is incomplete")
	}
	if doc.Interval == 0 {
		doc.Interval = 5 // RFC 8628 section 3.2
	}
	return DeviceCodes{
		UserCode: doc.UserCode, URI: doc.URI, Complete: doc.Complete, code: doc.DeviceCode,
		ExpiresAt: before.Add(time.Duration(min(doc.ExpiresIn, 1<<31)) * time.Second), Interval: time.Duration(min(doc.Interval, 3600)) * time.Second,
	}, nil
}

// DeviceToken polls once for a person's answer. Until there is one the error is a
// *ResponseError with the code authorization_pending or slow_down; its Confirm is
// what to show meanwhile. resource narrows the token; "" for what was asked for.
func (c *TokenClient) DeviceToken(ctx context.Context, d DeviceCodes, resource string) (Credential, error) {
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.code}}
	setIf(form, "resource", resource)
	return c.grant(ctx, form)
}
