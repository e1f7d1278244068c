import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * mqadmin's commands one after another in one JVM: a command a line on standard input, words separated by tabs.
 * Each answer is one JSON line with what the command printed.
 */
public final class Admin {
    private Admin() {
    }

    public static void main(String[] args) throws Exception {
        PrintStream real = System.out;
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ByteArrayOutputStream printed = new ByteArrayOutputStream();
            PrintStream capture = new PrintStream(printed, true);
            System.setOut(capture);
            System.setErr(capture);
            long start = System.currentTimeMillis();
            MQAdminStartup.main0(line.split("\t"), null);
            real.println("{\"scenario\":\"admin\",\"fact\":\"ran\",\"command\":" + json(line.replace('\t', ' ')) + ",\"ms\":"
                + (System.currentTimeMillis() - start) + ",\"output\":" + json(printed.toString()) + "}");
            real.flush();
        }
        System.exit(0);
    }

    private static String json(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
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
