package resp

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"+OK\r\n", "OK"},
		{":42\r\n", "42"},
		{"$5\r\nhello\r\n", "hello"},
		{"$0\r\n\r\n", ""},
		{"$-1\r\n", "<nil>"},
		{"*2\r\n$1\r\na\r\n:3\r\n", "[a 3]"},
		{"-ERR no\r\n", "error redis: ERR no"},
		{"?1\r\n", `error redis: malformed answer "?1\r\n"`},
		{"$99999999999\r\n", `error redis: malformed answer "$99999999999\r\n"`},
		{"\n", `error redis: malformed answer "\n"`},
		{"$5\r\nhel", "error unexpected EOF"},
		{strings.Repeat("*1\r\n", 9), `error redis: malformed answer "*1\r\n"`},
	} {
		v, err := decode(bufio.NewReader(strings.NewReader(c.in)), 0)
		got := fmt.Sprint(v)
		if err != nil {
			got = "error " + err.Error()
		}
		if got != c.want {
			t.Errorf("decode(%q) = %s, want %s", c.in, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("*2\r\n$1\r\na\r\n:3\r\n"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = decode(bufio.NewReader(strings.NewReader(string(b))), 0)
	})
}

// TestClientReconnects ends every connection after one answer: an idle one that was closed costs no error.
func TestClientReconnects(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan bool, 5)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			if _, err := decode(r, 0); err == nil {
				fmt.Fprint(c, ":1\r\n")
			}
			c.Close()
			closed <- true
		}
	}()
	c := &Client{Addr: l.Addr().String()}
	defer c.Close()
	for i := range 5 {
		if n, err := c.Int(context.Background(), "INCR", "x"); n != 1 || err != nil {
			t.Fatalf("command %d: %d, %v", i, n, err)
		}
		<-closed // while it is on its way the client cannot know whether a command was taken
	}
}
