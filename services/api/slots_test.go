package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLargeBodiesTakeTurns keeps one user's large bodies from taking all the memory: the third waits until one of the first two is done, and
// somebody else's does not.
func TestLargeBodiesTakeTurns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ada, ed := b.account("ada"), b.account("ed")
	c := b.collection(ada, "c")
	b.member(ada, c, ed, "editor")
	body := func(title string) string {
		content, err := json.Marshal(map[string]any{"collection_id": c, "title": title, "content": strings.Repeat("x", 300<<10)})
		require.NoError(t, err)
		return string(content)
	}
	// begin sends all but the end of a body.
	begin := func(title string) (end func(), status <-chan int) {
		reader, writer := io.Pipe()
		answered := make(chan int, 1)
		request, err := http.NewRequestWithContext(t.Context(), "POST", b.server.URL+"/v1/items", reader)
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+ada.token)
		go func() {
			response, err := b.server.Client().Do(request)
			if err != nil {
				answered <- 0
				return
			}
			_ = response.Body.Close()
			answered <- response.StatusCode
		}()
		all := body(title)
		_, err = io.WriteString(writer, all[:len(all)-1])
		require.NoError(t, err)
		return func() {
			_, _ = io.WriteString(writer, all[len(all)-1:])
			_ = writer.Close()
		}, answered
	}
	endFirst, first := begin("first")
	endSecond, second := begin("second")
	// What the server has not read yet is in the connection's buffers, so both are known to be large only now and then; the slots are theirs or will be.
	third := make(chan answer, 1)
	go func() { third <- b.call(ada, "POST", "/v1/items", body("third")) }()
	b.call(ed, "POST", "/v1/items", body("of somebody else")).is(201)
	b.call(ada, "POST", "/v1/items", map[string]any{"collection_id": c, "title": "small", "content": ""}).is(201)
	endFirst()
	require.Equal(t, 201, <-first)
	endSecond()
	require.Equal(t, 201, <-second)
	(<-third).is(201)
	require.Len(t, b.call(ada, "GET", fmt.Sprintf("/v1/items?collection_id=%s", c), nil).is(200).items(), 5)
}
