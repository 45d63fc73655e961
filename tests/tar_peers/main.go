// What Go's archive/tar finds in each archive, a JSON line each: the entries, and whether it read to the end.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

type entry struct {
	Kind  string
	Name  string
	Link  string
	Size  int64
	Mode  int64
	Uid   int
	Gid   int
	Sec   int64
	Nsec  int
	Bytes string
}

type archive struct {
	Entries []entry
	Error   string
}

func read(path string) (found archive) {
	file, err := os.Open(path)
	if err != nil {
		panic(err)
	}
	defer file.Close()
	found.Entries = []entry{}
	reader := tar.NewReader(file)
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			found.Error = err.Error()
			return
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		one := entry{
			Kind: string(rune(header.Typeflag)), Name: hex.EncodeToString([]byte(header.Name)),
			Link: hex.EncodeToString([]byte(header.Linkname)), Size: header.Size, Mode: header.Mode & 07777,
			Uid: header.Uid, Gid: header.Gid, Sec: header.ModTime.Unix(), Nsec: header.ModTime.Nanosecond(),
		}
		if strings.ContainsRune("07S", rune(header.Typeflag)) {
			sum := sha256.New()
			if _, err := io.Copy(sum, reader); err != nil {
				found.Error = err.Error()
				return
			}
			one.Bytes = hex.EncodeToString(sum.Sum(nil))
		}
		found.Entries = append(found.Entries, one)
	}
}

func main() {
	for number := 0; ; number++ {
		path := fmt.Sprintf("%d.tar", number)
		if _, err := os.Stat(path); err != nil {
			return
		}
		text, _ := json.Marshal(read(path))
		fmt.Println(string(text))
	}
}
