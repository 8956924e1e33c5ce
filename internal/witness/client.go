package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/quorum"
)

// Client submits checkpoints of one log to witnesses.
type Client struct {
	HTTP *http.Client // behind the egress guard
	Now  func() time.Time
}

// AheadError says that a witness has cosigned a larger tree of this log than it was
// shown: the log has gone back, or the witness says something wrong. A number proves
// nothing; Last may.
type AheadError struct{ Size, Shown uint64 }

// Error implements error.
func (e *AheadError) Error() string {
	return fmt.Sprintf("it says that it has cosigned a tree of %d records, and the log has %d", e.Size, e.Shown)
}

// ErrForked says that a witness has seen another tree than this one grew out of.
var ErrForked = errors.New("it has cosigned another tree than this log grew out of")

// skew is how far in the future a witness's clock may be.
const skew = 5 * time.Minute

// Add submits a checkpoint of a size to a witness and gives its cosignature, verified.
// old is the size that the witness is thought to know; if it knows another one, prove
// is asked for the proof from there. Errors are *AheadError, ErrForked or of the call.
func (c *Client) Add(ctx context.Context, w quorum.Witness, checkpoint []byte, size, old uint64, prove func(ctx context.Context, old uint64) ([][32]byte, error)) (quorum.Cosignature, error) {
	for range 4 {
		proof, err := prove(ctx, old)
		if err != nil {
			return quorum.Cosignature{}, err
		}
		status, kind, body, err := c.post(ctx, w.URL, Request{old, proof, checkpoint}.Append(nil))
		if err != nil {
			return quorum.Cosignature{}, err
		}
		switch {
		case status == http.StatusOK:
			return c.cosignature(w, checkpoint, body)
		case status == http.StatusUnprocessableEntity:
			return quorum.Cosignature{}, ErrForked
		case status != http.StatusConflict || kind != "text/x.tlog.size":
			return quorum.Cosignature{}, fmt.Errorf("it answered %d: %.120q", status, body)
		}
		text, ok := strings.CutSuffix(string(body), "\n")
		knows, err := strconv.ParseUint(text, 10, 63)
		switch {
		case !ok || err != nil || strconv.FormatUint(knows, 10) != text:
			return quorum.Cosignature{}, fmt.Errorf("it answered %d: %.120q", status, body)
		case knows > size:
			return quorum.Cosignature{}, &AheadError{knows, size}
		case knows == old && old == size:
			return quorum.Cosignature{}, ErrForked
		}
		old = knows // it may move again meanwhile: another replica submits, too
	}
	return quorum.Cosignature{}, errors.New("it knows another size each time")
}

func (c *Client) post(ctx context.Context, prefix string, body []byte) (status int, kind string, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(prefix, "/")+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxRequest))
	return resp.StatusCode, resp.Header.Get("Content-Type"), answer, err
}

// cosignature verifies what a witness answered.
func (c *Client) cosignature(w quorum.Witness, checkpoint, body []byte) (quorum.Cosignature, error) {
	text, _, err := quorum.Body(checkpoint)
	if err != nil {
		return quorum.Cosignature{}, err
	}
	list, err := quorum.Cosignatures(append(append(bytes.Clone(text), '\n'), body...), []quorum.Key{w.Key})
	if err != nil {
		return quorum.Cosignature{}, fmt.Errorf("what it answered does not hold: %w", err)
	}
	if len(list) != 1 {
		return quorum.Cosignature{}, errors.New("it answered without a cosignature of its key")
	}
	if list[0].At.After(c.Now().Add(skew)) {
		return quorum.Cosignature{}, fmt.Errorf("its cosignature is of a time to come, %s", list[0].At.Format(time.RFC3339))
	}
	return list[0], nil
}

// Last asks a witness of ours for the last checkpoint that it cosigned of a log, as
// signed; nil if it has none or is a witness of another make. The caller verifies it.
func (c *Client) Last(ctx context.Context, w quorum.Witness, origin string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(w.URL, "/")+"/"+fileName(origin)+"/checkpoint", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxRequest))
}
