package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"regexp"
)

// brokerAddress asks the name server for the one broker: client-go's admin wants to be told its address, as a person would.
func brokerAddress(ns string) (string, error) {
	conn, err := net.Dial("tcp", ns)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	header, err := json.Marshal(map[string]any{"code": 106, "language": "GO", "version": 317, "opaque": 1, "flag": 0})
	if err != nil {
		return "", err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	if _, err := conn.Write(append(frame, header...)); err != nil {
		return "", err
	}
	var total uint32
	if err := binary.Read(conn, binary.BigEndian, &total); err != nil {
		return "", err
	}
	answer := make([]byte, total)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return "", err
	}
	found := regexp.MustCompile(`"brokerAddrs":\{"?0"?:"([^"]+)"`).FindSubmatch(answer)
	if found == nil {
		return "", errors.New("no broker in the cluster info")
	}
	return string(found[1]), nil
}
