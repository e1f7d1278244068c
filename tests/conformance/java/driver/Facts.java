import java.io.PrintStream;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.zip.CRC32;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** What one scenario saw, as JSON lines on standard output. The driver only reports; the Rust side decides what is right. */
final class Facts {
    private static final PrintStream OUT = System.out;
    private final String scenario;

    Facts(String scenario) {
        this.scenario = scenario;
    }

    /** Prints one line: the scenario, the kind of fact, then key, value, key, value. */
    void say(String fact, Object... pairs) {
        StringBuilder line = new StringBuilder("{\"scenario\":").append(json(scenario)).append(",\"fact\":").append(json(fact));
        for (int i = 0; i + 1 < pairs.length; i += 2) {
            line.append(',').append(json(pairs[i].toString())).append(':').append(json(pairs[i + 1]));
        }
        synchronized (OUT) {
            OUT.println(line.append('}'));
            OUT.flush();
        }
    }

    /** A message as a reader sees it: `how` tells who read it. */
    void message(String fact, String how, MessageExt m) {
        CRC32 crc = new CRC32();
        crc.update(m.getBody());
        say(fact, "how", how, "topic", m.getTopic(), "queue", m.getQueueId(), "offset", m.getQueueOffset(), "id", m.getMsgId(),
            "tags", m.getTags(), "keys", m.getKeys(), "size", m.getBody().length, "crc", crc.getValue(),
            "body", m.getBody().length > 200 ? "" : new String(m.getBody()), "reconsume", m.getReconsumeTimes(),
            "properties", new HashMap<>(m.getProperties()), "born", String.valueOf(m.getBornHostString()), "store_time", m.getStoreTimestamp(),
            "physical", m.getCommitLogOffset(), "store_size", m.getStoreSize(), "sys_flag", m.getSysFlag(),
            "offset_id", m instanceof MessageClientExt ? ((MessageClientExt) m).getOffsetMsgId() : null);
    }

    static String queue(MessageQueue q) {
        return q.getBrokerName() + "/" + q.getQueueId();
    }

    static String json(Object v) {
        if (v == null) {
            return "null";
        }
        if (v instanceof Number || v instanceof Boolean) {
            return v.toString();
        }
        StringBuilder out = new StringBuilder();
        if (v instanceof Map) {
            out.append('{');
            for (Map.Entry<?, ?> e : ((Map<?, ?>) v).entrySet()) {
                out.append(out.length() > 1 ? "," : "").append(json(e.getKey().toString())).append(':').append(json(e.getValue()));
            }
            return out.append('}').toString();
        }
        if (v instanceof Collection) {
            out.append('[');
            for (Object e : (Collection<?>) v) {
                out.append(out.length() > 1 ? "," : "").append(json(e));
            }
            return out.append(']').toString();
        }
        out.append('"');
        for (char c : v.toString().toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
