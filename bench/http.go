package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
)

// httpConn is one kept-alive HTTP/1.1 connection that sends prepared bytes and looks at the status only. net/http's client would take as much of
// the processors as the server that is measured.
type httpConn struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
	body    bytes.Buffer
}

func (c *httpConn) do(ctx context.Context, request []byte, want int) error {
	if c.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 32<<10)
	}
	if _, err := c.conn.Write(request); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	status, err := c.receive()
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if status != want {
		return fmt.Errorf("status %d, want %d: %s", status, want, c.body.Bytes())
	}
	return nil
}

var errHeader = errors.New("the answer's header is not HTTP/1.1's")

// receive reads one answer and keeps its body until the next.
func (c *httpConn) receive() (status int, err error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, errHeader
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, errHeader
	}
	length, chunked := 0, false
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, errHeader
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	c.body.Reset()
	if !chunked {
		_, err := io.CopyN(&c.body, c.reader, int64(length))
		return status, err
	}
	return status, c.chunks()
}

func (c *httpConn) chunks() error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 64)
		if err != nil {
			return errHeader
		}
		if _, err := io.CopyN(&c.body, c.reader, size); err != nil {
			return err
		}
		if _, err := c.reader.Discard(2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// get is a prepared GET request.
func get(path, token string) []byte {
	return []byte("GET " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + token + "\r\n\r\n")
}

// post is a prepared POST request with a JSON body.
func post(path, token string, body []byte) []byte {
	head := "POST " + path + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + token +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}
