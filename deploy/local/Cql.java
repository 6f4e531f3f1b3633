import com.datastax.driver.core.Cluster;
import com.datastax.driver.core.exceptions.AuthenticationException;
import com.datastax.driver.core.exceptions.DriverException;
import java.io.BufferedReader;
import java.io.InputStreamReader;

/** Runs the CQL statements on its input, one a line, as CQL_USER with CQL_PASSWORD; exits 1 at the first refusal. */
public class Cql {
    public static void main(String[] args) throws Exception {
        var statements = new BufferedReader(new InputStreamReader(System.in)).lines().filter(s -> !s.isBlank()).toList();
        // The first role is written a moment after the port opens, hence the attempts.
        for (int attempt = 1; ; attempt++) {
            try (var cluster = Cluster.builder().addContactPoint(args[0]).withPort(Integer.parseInt(args[1]))
                    .withCredentials(System.getenv("CQL_USER"), System.getenv("CQL_PASSWORD")).withoutJMXReporting().build();
                    var session = cluster.connect()) {
                for (var statement : statements) session.execute(statement).forEach(System.out::println);
                System.exit(0);
            } catch (AuthenticationException e) {
                if (attempt == 10) { System.err.println(e.getMessage()); System.exit(1); }
                Thread.sleep(500);
            } catch (DriverException e) {
                System.err.println(e.getMessage());
                System.exit(1);
            }
        }
    }
}
